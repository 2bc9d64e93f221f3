package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/stayafrica/messaging/bench/measure"
)

// Text writes a run as tables for a terminal: a table per workload, then the goals.
func Text(w io.Writer, run measure.Run) {
	out := new(bytes.Buffer)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range facts(run) {
		line(table, f.Name, f.Value)
	}
	_ = table.Flush()
	for _, work := range workloads(run) {
		_, _ = fmt.Fprintf(out, "\n%s\n\n", clean(work.Name))
		work.text(table)
		_ = table.Flush()
		work.remarks(out)
	}
	summary(out, outcomes(run))
	for line := range strings.Lines(out.String()) { // without the padding of the last column
		_, _ = fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// line writes a table row.
func line(w io.Writer, cells ...string) {
	for i, cell := range cells {
		cells[i] = clean(cell)
	}
	_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// clean removes control characters, which could move the cursor out of a cell.
func clean(cell string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, cell)
}

func (work workload) text(w io.Writer) {
	write := func(name, side, figure, unit, p50, p99, ratio, goal, v string) {
		cells := []string{"  " + name, side, figure, unit}
		if work.Timed {
			cells = append(cells, p50, p99)
		}
		line(w, append(cells, ratio, goal, v)...)
	}
	write("CASE", "SIDE", "MEDIAN (LEAST TO MOST)", "UNIT", "P50 MS", "P99 MS", "OURS ÷ THEIRS", "GOAL", "VERDICT")
	for _, e := range work.Entries {
		for i, r := range e.Rows {
			name, unit := "", ""
			if i == 0 {
				name = e.Case
			}
			if r.Figure.Median != "" {
				unit = e.Unit
			}
			write(name, r.Side, r.Figure.String(), unit, r.P50, r.P99, r.Ratio.String(), r.Goal, string(r.Verdict))
		}
	}
}

// remarks returns what does not fit into the table: the details of the sides, each
// once, and the notes.
func (work workload) remarks(w io.Writer) {
	var list []string
	for _, s := range work.sides() {
		list = append(list, s.Side+": "+s.Detail)
	}
	for _, e := range work.Entries {
		if e.Note != "" {
			list = append(list, cmp.Or(e.Case, work.Name)+": "+e.Note)
		}
	}
	for i, remark := range list {
		if i == 0 {
			_, _ = fmt.Fprintln(w)
		}
		line(w, "  "+remark)
	}
}

// sides returns the sides of the workload that have a detail, each once.
func (work workload) sides() []row {
	var list []row
	seen := map[[2]string]bool{}
	for _, r := range work.Results {
		for _, s := range r.Sides {
			key := [2]string{s.Name, s.Detail}
			if s.Detail != "" && !seen[key] {
				seen[key] = true
				list = append(list, row{Side: s.Name, Detail: s.Detail})
			}
		}
	}
	return list
}

func summary(w io.Writer, list []outcome) {
	_, _ = fmt.Fprintf(w, "\nGoals: %d met, %d not met, %d not measured\n", count(list, met), count(list, notMet), count(list, notMeasured))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, o := range list {
		if o.Verdict != met {
			line(table, "  "+string(o.Verdict), o.Workload, o.Case, o.Goal, o.Value.String())
		}
	}
	_ = table.Flush()
}
