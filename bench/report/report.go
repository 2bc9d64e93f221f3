// Package report presents the results of a benchmark run: as tables for a terminal, and
// as one self-contained HTML page with plots. Package measure judges the goals.
package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

// verdict is the result of a goal; empty without a goal.
type verdict string

const (
	met         verdict = "met"
	notMet      verdict = "NOT MET"
	notMeasured verdict = "not measured"
)

// row is a table row: one side of a result, or a further goal of it.
type row struct {
	Side, Detail   string
	Figure, Ratio  figures
	P50, P99, Goal string
	Verdict        verdict
}

// figures are a median and its range.
type figures struct{ Median, Range string }

func figuresOf(s measure.Spread) figures {
	if math.IsNaN(s.Median) {
		return figures{Median: measure.Number(s.Median)}
	}
	return figures{Median: measure.Number(s.Median), Range: fmt.Sprintf("(%s to %s)", measure.Number(s.Least), measure.Number(s.Most))}
}

// String joins both.
func (f figures) String() string { return strings.TrimSpace(f.Median + " " + f.Range) }

// entry is a result with its rows.
type entry struct {
	Case, Unit, Note string
	Rows             []row
}

// workload holds all results of the same work, in the order of the run.
type workload struct {
	Name    string
	Results []measure.Result
	Entries []entry
	// Timed reports whether any of its calls were timed individually.
	Timed bool
}

// outcome is a goal and its verdict.
type outcome struct {
	Workload, Case, Goal string
	Value                figures
	Verdict              verdict
}

// workloads groups the results by workload.
func workloads(run measure.Run) []workload {
	var list []workload
	for _, result := range run.Results {
		i := slices.IndexFunc(list, func(w workload) bool { return w.Name == result.Workload })
		if i < 0 {
			i = len(list)
			list = append(list, workload{Name: result.Workload})
		}
		e := entryOf(result)
		list[i].Results = append(list[i].Results, result)
		list[i].Entries = append(list[i].Entries, e)
		list[i].Timed = list[i].Timed || slices.ContainsFunc(e.Rows, func(r row) bool { return r.P50 != "" })
	}
	return list
}

// entryOf puts each goal into the row of the side that it refers to. A goal for the
// figure itself goes into the first row. A goal against an absent side gets a row of
// its own.
func entryOf(r measure.Result) entry {
	e := entry{Case: r.Case, Unit: r.Unit, Note: r.Note}
	placed := make([]bool, len(r.Goals))
	for i, s := range r.Sides {
		rows := []row{sideRow(r, i)}
		for n, g := range r.Goals {
			if placed[n] || g.Against != s.Name && (g.Against != "" || i > 0) {
				continue
			}
			placed[n] = true
			if rows[len(rows)-1].Goal != "" {
				rows = append(rows, row{})
			}
			rows[len(rows)-1].judge(r, g)
		}
		e.Rows = append(e.Rows, rows...)
	}
	for n, g := range r.Goals {
		if !placed[n] {
			absent := row{Side: g.Against}
			absent.judge(r, g)
			e.Rows = append(e.Rows, absent)
		}
	}
	return e
}

func sideRow(r measure.Result, i int) row {
	s := r.Sides[i]
	line := row{
		Side: s.Name, Detail: s.Detail, Figure: figuresOf(measure.SpreadOf(s.Values())),
		P50: latency(s, func(l measure.Latency) float64 { return l.P50 }),
		P99: latency(s, func(l measure.Latency) float64 { return l.P99 }),
	}
	if i > 0 {
		line.Ratio = figuresOf(r.Ratio(s.Name))
	}
	return line
}

// latency returns the median of the rounds; empty if calls were not timed.
func latency(s measure.Side, of func(measure.Latency) float64) string {
	var list []float64
	for _, sample := range s.Samples {
		if sample.Latency != nil {
			list = append(list, of(*sample.Latency))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return measure.Number(measure.SpreadOf(list).Median)
}

func (line *row) judge(r measure.Result, g measure.Goal) {
	_, line.Verdict = judged(r, g)
	line.Goal = measure.Goal{Least: g.Least, Most: g.Most}.String() // the row names the other side
}

func judged(r measure.Result, g measure.Goal) (measure.Spread, verdict) {
	value, reached, known := r.Judge(g)
	switch {
	case !known:
		return value, notMeasured
	case reached:
		return value, met
	}
	return value, notMet
}

// outcomes returns all goals with their verdicts.
func outcomes(run measure.Run) []outcome {
	var list []outcome
	for _, r := range run.Results {
		for _, g := range r.Goals {
			value, v := judged(r, g)
			o := outcome{Workload: r.Workload, Case: r.Case, Goal: g.String(), Value: figuresOf(value), Verdict: v}
			if g.Against == "" {
				o.Goal += " " + r.Unit
			}
			list = append(list, o)
		}
	}
	return list
}

func count(list []outcome, v verdict) (n int) {
	for _, o := range list {
		if o.Verdict == v {
			n++
		}
	}
	return n
}

// fact is a known property of the machine or the run.
type fact struct{ Name, Value string }

// facts lists the known facts.
func facts(run measure.Run) []fact {
	m := run.Machine
	list := []fact{
		{"Run", runWords(run)},
		{"Processors", words(m.CPUs > 0, "%d × %s, GOMAXPROCS %d", m.CPUs, m.CPU, m.GOMAXPROCS)},
		{"Memory", words(m.Memory > 0, "%s MiB", measure.Number(float64(m.Memory)))},
		{"System", join(m.OS, m.Kernel)},
		{"Disk", join(m.FileSystem, m.Device, m.MountOptions)},
		{"Append of 8 KiB, synced", syncWords(m.Append)},
		{"Overwrite of 8 KiB, synced", syncWords(m.Overwrite)},
		{"Load before", words(m.Date != "", "%.2f, %.2f, %.2f over 1, 5 and 15 minutes", m.Load[0], m.Load[1], m.Load[2])},
		{"Go", m.Go},
	}
	names := make([]string, 0, len(m.Versions))
	for name := range m.Versions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list = append(list, fact{name, m.Versions[name]})
	}
	return slices.DeleteFunc(list, func(f fact) bool { return f.Value == "" })
}

func words(known bool, format string, args ...any) string {
	if !known {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func join(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), ", ")
}

func syncWords(s measure.Sync) string {
	return words(s.P50 > 0, "median %s µs, p99 %s µs", measure.Number(s.P50), measure.Number(s.P99))
}

func runWords(run measure.Run) string {
	began := ""
	if !run.Began.IsZero() {
		began = "began " + run.Began.UTC().Format(time.RFC3339)
	}
	return join(run.Mode, began, words(run.Took > 0, "took %s", run.Took.Round(time.Second)))
}
