// Package measure is how the benchmarks measure: things that are compared run in
// turn in one run, round after round, and what is reported is the median with
// the least and the most. Machines are shared and noisy; a ratio taken in one
// run says more than two figures taken in two.
package measure

import (
	"fmt"
	"math"
	"slices"
)

// Sample is what one round of one side gave.
type Sample struct {
	// Value is the figure, in the unit of its [Result].
	Value float64 `json:"value"`
	// Latency is how long calls took; nil where calls are not timed one by one.
	Latency *Latency `json:"latency,omitempty"`
	// Series is what was done in each [SeriesStep] of the round, as a rate in the
	// result's unit; nil where the load generator does not say.
	Series []float64 `json:"series,omitempty"`
}

// Side is one of the things that are compared.
type Side struct {
	// Name is who it is, such as "messaging" or "Redis streams".
	Name string `json:"name"`
	// Detail is with which settings and by which client, for a reader who wants to
	// do it again.
	Detail  string   `json:"detail,omitempty"`
	Samples []Sample `json:"samples"`
}

// Goal is what a result should reach.
type Goal struct {
	// Against names the side that the first one is compared with; without it the
	// figure itself is meant.
	Against string `json:"against,omitempty"`
	// Least or Most is the bound on the ratio, or on the figure; the other is 0.
	Least float64 `json:"least,omitzero"`
	Most  float64 `json:"most,omitzero"`
}

// Result is one thing that was measured, for one size of it.
type Result struct {
	// Workload is what was done, such as "send"; Case is of what size, such as
	// "64 connections", and Size the same as a number, for plots of cost against
	// size.
	Workload string  `json:"workload"`
	Case     string  `json:"case"`
	Size     float64 `json:"size,omitzero"`
	SizeName string  `json:"size_name,omitempty"`
	// Unit is that of the values, such as "messages/s", "ms" or "MiB".
	Unit string `json:"unit"`
	// Sides are what was compared; the first one is ours.
	Sides []Side `json:"sides"`
	Goals []Goal `json:"goals,omitempty"`
	// Note is what a reader must know beside the figures.
	Note string `json:"note,omitempty"`
}

// Spread is a median with the least and the most.
type Spread struct {
	Median, Least, Most float64
}

// SpreadOf gives the spread of a list, without what is not a number in it; that of
// an empty one is not a number.
func SpreadOf(list []float64) Spread {
	sorted := slices.DeleteFunc(slices.Clone(list), math.IsNaN)
	if len(sorted) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(sorted)
	return Spread{Median: sorted[(len(sorted)-1)/2], Least: sorted[0], Most: sorted[len(sorted)-1]}
}

// Format writes it as "12.3 (10.1 to 14.0)", with as many digits as its size asks
// for.
func (s Spread) Format() string {
	return fmt.Sprintf("%s (%s to %s)", Number(s.Median), Number(s.Least), Number(s.Most))
}

// Number writes a figure with three digits or more.
func Number(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return "–"
	case a >= 1e15:
		return fmt.Sprintf("%.3g", f)
	case a >= 1000:
		return thousands(int64(math.Round(f)))
	case a >= 100:
		return fmt.Sprintf("%.0f", f)
	case a >= 10:
		return fmt.Sprintf("%.1f", f)
	case a >= 0.1 || a == 0:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

// Count writes a whole number.
func Count(n int) string { return thousands(int64(n)) }

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// Values are the figures of all rounds.
func (s Side) Values() []float64 {
	list := make([]float64, len(s.Samples))
	for i, sample := range s.Samples {
		list[i] = sample.Value
	}
	return list
}

// Side gives the side of that name.
func (r Result) Side(name string) (Side, bool) {
	for _, s := range r.Sides {
		if s.Name == name {
			return s, true
		}
	}
	return Side{}, false
}

// Ratio is the first side beside another, round by round, and its spread.
func (r Result) Ratio(other string) Spread {
	theirs, ok := r.Side(other)
	if !ok || len(r.Sides) == 0 {
		return SpreadOf(nil)
	}
	ours := r.Sides[0].Samples
	var list []float64
	for i := range min(len(ours), len(theirs.Samples)) {
		list = append(list, ours[i].Value/theirs.Samples[i].Value)
	}
	return SpreadOf(list)
}

// Judge says whether a goal was reached, and how near it came: the median of the
// ratio, or of the figure. A goal against a side that was not measured, or that did
// nothing, is not judged.
func (r Result) Judge(g Goal) (value Spread, met, judged bool) {
	if g.Against != "" {
		value = r.Ratio(g.Against)
	} else if len(r.Sides) > 0 {
		value = SpreadOf(r.Sides[0].Values())
	}
	if math.IsNaN(value.Median) || math.IsInf(value.Median, 0) || len(r.Sides) == 0 {
		return value, false, false
	}
	met = (g.Least == 0 || value.Median >= g.Least) && (g.Most == 0 || value.Median <= g.Most)
	return value, met, true
}

// String says what the goal is, for a table.
func (g Goal) String() string {
	bound := "≥ " + Number(g.Least)
	if g.Most > 0 {
		bound = "≤ " + Number(g.Most)
	}
	if g.Against == "" {
		return bound
	}
	return bound + " × " + g.Against
}

// Measured is a side that is about to be measured: once a round.
type Measured struct {
	Name   string
	Detail string
	Round  func() (Sample, error)
}

// InTurn measures the sides in turn for so many rounds, and puts them into the
// result. Every other round goes through them in reverse, so that none always
// comes after the same one. say, if given, is told of each sample.
func InTurn(result *Result, rounds int, say func(side string, round int, s Sample), sides ...Measured) error {
	for _, s := range sides {
		result.Sides = append(result.Sides, Side{Name: s.Name, Detail: s.Detail})
	}
	order := make([]int, len(sides))
	for i := range order {
		order[i] = i
	}
	for round := range rounds {
		for _, i := range order {
			sample, err := sides[i].Round()
			if err != nil {
				return fmt.Errorf("%s, %s: %s: %w", result.Workload, result.Case, sides[i].Name, err)
			}
			result.Sides[i].Samples = append(result.Sides[i].Samples, sample)
			if say != nil {
				say(sides[i].Name, round, sample)
			}
		}
		slices.Reverse(order)
	}
	return nil
}
