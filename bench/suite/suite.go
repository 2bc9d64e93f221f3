package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/report"
)

// config configures a run.
type config struct {
	program, base, empty, dir, out, mode string
	rounds                               int
	scale                                scale
}

// scale is the size of the workloads.
type scale struct {
	rounds int
	// each is how long a round of one side takes. warm is how long a new service is
	// under load before it is measured: until it reuses its log files.
	each, warm time.Duration
	// quiesce is how long a store gets to write out earlier data before a measurement.
	// rest is how long connections are idle before the process is inspected.
	quiesce, rest time.Duration
	// senders and batches are the sizes of sends.
	senders, batches []int
	// batched is how many messages the largest batches store, over all rounds.
	batched int
	// takers are the numbers of concurrent takers.
	takers []int
	// taken is how many messages are taken per round.
	taken int
	// drained is how many messages are drained per round.
	drained int
	// refused is how many dead letters are listed.
	refused int
	// receivers are the sizes of broadcasts.
	receivers []int
	// stored are the sizes of the restarted store; the last one is that of the growth
	// and disk workloads.
	stored []int
	// idle are the numbers of idle connections.
	idle []int
}

var (
	full = scale{
		rounds: 5, each: 4 * time.Second, warm: 10 * time.Second, quiesce: 2 * time.Second, rest: 5 * time.Second,
		senders: []int{1, 16, 64, 256}, batches: []int{10, 100, 1000}, batched: 5_000_000, takers: []int{1, 64, 256}, taken: 200_000, drained: 600_000,
		refused:   1_000_000,
		receivers: []int{10, 100, 1000, 10_000, 100_000}, stored: []int{100_000, 1_000_000, 10_000_000}, idle: []int{1000, 10_000},
	}
	small = scale{
		rounds: 2, each: time.Second, warm: 4 * time.Second, quiesce: 500 * time.Millisecond, rest: 2 * time.Second,
		senders: []int{64, 256}, batches: []int{100, 1000}, batched: 300_000, takers: []int{64}, taken: 50_000, drained: 100_000, refused: 20_000,
		receivers: []int{1000, 100_000}, stored: []int{50_000, 200_000}, idle: []int{1000},
	}
)

// workload is one measured kind of work.
type workload struct {
	name, what string
	run        func(s *suite) error
}

// workloads returns the workloads of a mode.
func workloads(systems, compare bool) []workload {
	switch {
	case compare:
		return revisionWorkloads
	case systems:
		return comparisonWorkloads
	}
	return serviceWorkloads
}

// suite is one run.
type suite struct {
	config
	work string // the directory of this run
	run  measure.Run
	// sustained is the rate of sends at 64 connections, for the open loop.
	sustained float64
}

// errInterrupted reports that the user interrupted the run.
var errInterrupted = errors.New("interrupted: the results so far are written")

// run runs the workloads and writes their results, even if one fails.
func run(c *config, chosen []workload, interrupted <-chan os.Signal) (err error) {
	s := &suite{config: *c}
	if s.work, err = os.MkdirTemp(s.dir, "messaging-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.work)) }()
	if s.run, err = newRun(c, s.work); err != nil {
		return err
	}
	for _, w := range chosen {
		done := make(chan error, 1)
		s.logf("== %s: %s", w.name, w.what)
		go func() { done <- w.run(s) }()
		var failed error
		select {
		case failed = <-done:
		case <-interrupted:
			endAll()
			waitAndDiscard(done)
			failed = errInterrupted
		}
		if err = errors.Join(err, failed); failed != nil {
			break
		}
	}
	return errors.Join(err, s.finish())
}

// waitAndDiscard waits for a workload whose services were killed and discards its
// error.
func waitAndDiscard(done <-chan error) {
	select {
	case <-done: //nolint:errcheck // of no interest
	case <-time.After(10 * time.Second):
	}
}

// newRun inspects the machine.
func newRun(c *config, dir string) (measure.Run, error) {
	began := time.Now()
	machine, err := measure.Inspect(dir, began)
	if err != nil {
		return measure.Run{}, fmt.Errorf("inspect the machine: %w", err)
	}
	machine.Versions = map[string]string{"messaging": firstLine(exec.Command(c.program, "version"))} //nolint:gosec,noctx // the program to be measured
	if c.base != "" {
		machine.Versions["base"] = firstLine(exec.Command(c.base, "version")) //nolint:gosec,noctx // the same
	}
	if wrk := firstLine(exec.Command("wrk", "-v")); wrk != "" { //nolint:noctx // at once
		machine.Versions["wrk"] = strings.TrimSpace(strings.SplitN(wrk, "[", 2)[0])
	}
	return measure.Run{Machine: machine, Began: began.UTC(), Mode: c.mode}, nil
}

// firstLine returns the first line of a command's output; some commands exit with 1
// after printing their version.
func firstLine(c *exec.Cmd) string {
	out, _ := c.CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// finish writes the results and prints them.
func (s *suite) finish() error {
	if len(s.run.Results) == 0 {
		return nil
	}
	s.run.Took = time.Since(s.run.Began)
	if err := os.MkdirAll(s.out, 0o755); err != nil { //nolint:gosec // for everyone to read
		return err
	}
	base := filepath.Join(s.out, s.run.Began.Format("2006-01-02T15-04-05")+"-"+s.mode)
	err := s.run.Write(base + ".json")
	page, failed := os.Create(base + ".html")
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if err = errors.Join(report.HTML(page, s.run), page.Close()); err != nil {
		return err
	}
	fmt.Println()
	report.Text(os.Stdout, s.run)
	fmt.Printf("\nraw results: %s.json\nreport:      %s.html\n", base, base)
	if s.base == "" {
		return nil
	}
	return errors.Join(writeBenchmarks(base, s.run), slower(s.run))
}

// logf prints a line of progress.
func (s *suite) logf(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// inTurn measures sides in turn and keeps the result.
func (s *suite) inTurn(r measure.Result, sides ...measure.Measured) error {
	return s.inTurnFor(r, s.rounds, sides...)
}

// inTurnFor is inTurn with another number of rounds.
func (s *suite) inTurnFor(r measure.Result, rounds int, sides ...measure.Measured) error {
	err := measure.InTurn(&r, rounds, nil, sides...)
	if err != nil {
		return err
	}
	s.keep(r)
	return nil
}

// keep adds a result and prints it.
func (s *suite) keep(r measure.Result) {
	s.run.Results = append(s.run.Results, r)
	var lines []string
	for _, side := range r.Sides {
		lines = append(lines, fmt.Sprintf("%s %s", side.Name, measure.SpreadOf(side.Values()).Format()))
	}
	s.logf("  %s, %s: %s", r.Case, r.Unit, strings.Join(lines, "; "))
}
