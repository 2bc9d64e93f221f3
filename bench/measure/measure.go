// Package measure runs measurements and compares them. The compared sides run in turn
// within one run, round by round, and the report has the median with the minimum and the
// maximum. Machines are shared and noisy: a ratio within one run is more reliable than two
// figures of two runs.
package measure

import (
	"fmt"
	"math"
	"slices"
)

// Sample is the result of one round of one side.
type Sample struct {
	// Value is the figure in the unit of its [Result].
	Value float64 `json:"value"`
	// Latency is the distribution of call durations; nil if calls are not timed
	// individually.
	Latency *Latency `json:"latency,omitempty"`
	// Series is the rate in each [SeriesStep] of the round, in the result's unit; nil
	// if the load generator does not report it.
	Series []float64 `json:"series,omitempty"`
}

// Side is one of the compared systems or variants.
type Side struct {
	// Name is its name, such as "messaging" or "Redis streams".
	Name string `json:"name"`
	// Detail describes the settings and the client, so that a reader can repeat the
	// measurement.
	Detail  string   `json:"detail,omitempty"`
	Samples []Sample `json:"samples"`
}

// Goal is a target of a result.
type Goal struct {
	// Against names the side that the first side is compared with; empty if the goal is
	// about the figure itself.
	Against string `json:"against,omitempty"`
	// Least or Most is the bound on the ratio or the figure; the other is 0.
	Least float64 `json:"least,omitzero"`
	Most  float64 `json:"most,omitzero"`
}

// Result is one measurement at one size.
type Result struct {
	// Workload is the kind of work, such as "send". Case describes the size, such as
	// "64 connections". Size is the same as a number, for plots of cost against size.
	Workload string  `json:"workload"`
	Case     string  `json:"case"`
	Size     float64 `json:"size,omitzero"`
	SizeName string  `json:"size_name,omitempty"`
	// Unit is the unit of the values, such as "messages/s", "ms" or "MiB".
	Unit string `json:"unit"`
	// Sides are the compared sides; the first one is the service.
	Sides []Side `json:"sides"`
	Goals []Goal `json:"goals,omitempty"`
	// Note is additional information for the reader.
	Note string `json:"note,omitempty"`
}

// Spread is a median with the minimum and the maximum.
type Spread struct {
	Median, Least, Most float64
}

// SpreadOf returns the spread of a list, ignoring NaN. The spread of an empty list is
// NaN.
func SpreadOf(list []float64) Spread {
	sorted := slices.DeleteFunc(slices.Clone(list), math.IsNaN)
	if len(sorted) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(sorted)
	return Spread{Median: sorted[(len(sorted)-1)/2], Least: sorted[0], Most: sorted[len(sorted)-1]}
}

// Format returns the spread as "12.3 (10.1 to 14.0)", with a precision that depends on
// the magnitude.
func (s Spread) Format() string {
	return fmt.Sprintf("%s (%s to %s)", Number(s.Median), Number(s.Least), Number(s.Most))
}

// Number formats a figure with at least three digits.
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

// Count formats an integer.
func Count(n int) string { return thousands(int64(n)) }

// thousands formats 1234567 as 1,234,567.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// Values returns the figures of all rounds.
func (s Side) Values() []float64 {
	list := make([]float64, len(s.Samples))
	for i, sample := range s.Samples {
		list[i] = sample.Value
	}
	return list
}

// Side returns the side with that name.
func (r Result) Side(name string) (Side, bool) {
	for _, s := range r.Sides {
		if s.Name == name {
			return s, true
		}
	}
	return Side{}, false
}

// Ratio returns the spread of the ratio of the first side to another, taken round by
// round.
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

// Judge returns the measured value for a goal, which is the median ratio or figure with
// its spread, and whether it meets the goal. judged is false if the other side was not
// measured or did nothing.
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

// String formats the goal for a table.
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

// Measured is a side to be measured: Round is called once per round.
type Measured struct {
	Name   string
	Detail string
	Round  func() (Sample, error)
}

// InTurn measures the sides in turn for a number of rounds and adds them to the result.
// Every other round uses the reverse order, so that no side always follows the same
// one. say, if not nil, is called for each sample.
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
