package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// result is the result of one test.
type result struct {
	fault    string
	passed   bool
	ended    bool     // false if the run ended before the test
	failures []string // the failures of the test and its subtests
}

// outcome returns the word for the table.
func (r *result) outcome() string {
	switch {
	case r == nil:
		return "not run"
	case !r.ended:
		return "not ended"
	case r.passed:
		return "passes"
	default:
		return "fails"
	}
}

// event is a line of `go test -json`.
type event struct {
	Action, Test, Output, Key, Value string
}

// parse reads the output of `go test -json` and returns the results by test name.
func parse(out []byte) (map[string]*result, error) {
	results := make(map[string]*result)
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return results, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the output of the tests: %w", err)
		}
		if e.Test == "" {
			continue
		}
		name, _, sub := strings.Cut(e.Test, "/")
		r := results[name]
		if r == nil {
			r = &result{}
			results[name] = r
		}
		switch e.Action {
		case "attr":
			if e.Key == "fault" {
				r.fault = e.Value
			}
		case "output":
			if says, ok := failure(e.Output); ok {
				r.failures = append(r.failures, says)
			}
		case "pass", "fail":
			if !sub {
				r.passed, r.ended = e.Action == "pass", true
			}
		}
	}
}

// failure returns the failure in a line of a test's output, without its source
// position.
func failure(line string) (says string, ok bool) {
	where, says, ok := strings.Cut(strings.TrimSpace(line), ": ")
	if !ok || !strings.Contains(where, "_test.go:") || strings.HasPrefix(says, "the end of the service's log") {
		return "", false
	}
	return says, true
}

// report prints a line per test and the failures on this tree. It returns whether each
// test passes here and fails on the base. A test without a fault number is a control
// and must pass on both.
func report(w io.Writer, base, this map[string]*result, verbose bool) (good bool) {
	names := slices.Collect(maps.Keys(base))
	for name := range this {
		if base[name] == nil {
			names = append(names, name)
		}
	}
	number := func(name string) int {
		for _, r := range []*result{base[name], this[name]} {
			if r != nil && r.fault != "" {
				n, _ := strconv.Atoi(r.fault)
				return n
			}
		}
		return 0
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(number(a), number(b)), cmp.Compare(a, b))
	})
	good = true
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range names {
		note := ""
		switch old, now := base[name].outcome(), this[name].outcome(); {
		case now != "passes":
			note = "must pass"
		case number(name) == 0 && old != "passes":
			note = "a control: the base does not work"
		case number(name) != 0 && old != "fails":
			note = "shows nothing"
		}
		good = good && note == ""
		label := "control"
		if n := number(name); n > 0 {
			label = strconv.Itoa(n)
		}
		fmt.Fprintf(table, "%s\t%s\tbase: %s,\tthis: %s\t%s\n", label, name, base[name].outcome(), this[name].outcome(), note)
	}
	_ = table.Flush()
	for _, name := range names {
		printFailures(w, "base", name, base[name], verbose)
		printFailures(w, "this", name, this[name], true)
	}
	return good
}

// printFailures prints the failures of a test.
func printFailures(w io.Writer, program, name string, r *result, wanted bool) {
	if !wanted || r == nil || r.passed {
		return
	}
	fmt.Fprintf(w, "\n%s: %s\n", program, name)
	for _, says := range r.failures {
		fmt.Fprintf(w, "  %s\n", says)
	}
}
