package report_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/report"
)

var update = flag.Bool("update", false, "rewrite the expected texts")

func text(run measure.Run) string {
	var out bytes.Buffer
	report.Text(&out, run)
	return out.String()
}

func TestText(t *testing.T) {
	path, got := filepath.Join("testdata", "sample.txt"), text(sample())
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (if it is right: go test -update):\n%s", path, got)
	}
}

func TestTextOfNothing(t *testing.T) {
	if got := text(measure.Run{}); got != "\nGoals: 0 met, 0 not met, 0 not measured\n" {
		t.Errorf("%q", got)
	}
}

func TestTextPutsEachGoalInTheRowOfItsSide(t *testing.T) {
	w := newWorld()
	got := text(measure.Run{Results: []measure.Result{{
		Workload: "send", Case: "one", Unit: "ms",
		Sides: []measure.Side{w.side("ours", "", 1, 10), w.side("theirs", "", 1, 20), {Name: "broken"}},
		Goals: []measure.Goal{{Against: "theirs", Most: 1}, {Most: 5}, {Against: "theirs", Most: 0.1}, {Against: "broken", Most: 1}, {Against: "absent", Most: 1}},
	}}})
	var rows [][]string
	for line := range strings.Lines(got) {
		if fields := strings.Fields(line); strings.Contains(line, "≤ ") {
			rows = append(rows, fields)
		}
	}
	for i, want := range []string{"one ours NOT MET", "theirs ≤ 1.00 met", "≤ 0.10 NOT MET", "broken – ≤ 1.00 not measured", "absent ≤ 1.00 not measured"} {
		row := strings.Join(rows[i], " ")
		at := 0
		for word := range strings.FieldsSeq(want) {
			next := strings.Index(row[at:], word)
			if next < 0 {
				t.Errorf("row %d is %q, not %q", i, row, want)
				break
			}
			at += next
		}
	}
}

func TestTextKeepsHostileNamesInTheirCells(t *testing.T) {
	run := sample()
	run.Results[0].Workload = "send\x1b[2J\r\nGoals: 99 met"
	run.Results[0].Case = "a\tb\u0085c"
	got := text(run)
	if strings.ContainsAny(got, "\x1b\r\t\u0085") || strings.Contains(got, "\nGoals: 99 met") {
		t.Error(got)
	}
}
