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

// config says what to run, where.
type config struct {
	program, base, empty, dir, out, mode string
	rounds                               int
	scale                                scale
}

// scale is how much of everything.
type scale struct {
	rounds int
	// each is how long a round of one side takes, and warm how long a new service is
	// under load before it is measured: until the files of its log are used again.
	each, warm time.Duration
	// settle is how long a store has to write down what came before, so that a
	// measurement has only its own work; rest how long connections do nothing before
	// the process is looked at.
	settle, rest time.Duration
	// senders and batches are the sizes of sends.
	senders, batches []int
	// batched is how many messages the largest batches store, over all rounds.
	batched int
	// takers are the sizes of takes.
	takers []int
	// taken is how many messages are taken in a round.
	taken int
	// drained is how many messages are drained in a round.
	drained int
	// receivers are the sizes of broadcasts.
	receivers []int
	// stored are the sizes of the store that is started again, the last one that of
	// the growth and disk workloads.
	stored []int
	// idle are how many connections are idle.
	idle []int
}

var (
	full = scale{
		rounds: 5, each: 4 * time.Second, warm: 10 * time.Second, settle: 2 * time.Second, rest: 5 * time.Second,
		senders: []int{1, 16, 64, 256}, batches: []int{10, 100, 1000}, batched: 5_000_000, takers: []int{1, 64, 256}, taken: 200_000, drained: 600_000,
		receivers: []int{10, 100, 1000, 10_000, 100_000}, stored: []int{100_000, 1_000_000, 10_000_000}, idle: []int{1000, 10_000},
	}
	small = scale{
		rounds: 2, each: time.Second, warm: 4 * time.Second, settle: 500 * time.Millisecond, rest: 2 * time.Second,
		senders: []int{64, 256}, batches: []int{100, 1000}, batched: 300_000, takers: []int{64}, taken: 50_000, drained: 100_000,
		receivers: []int{1000, 100_000}, stored: []int{50_000, 200_000}, idle: []int{1000},
	}
)

// workload is one thing that is measured.
type workload struct {
	name, what string
	run        func(s *suite) error
}

// workloads lists what there is.
func workloads(peers, compare bool) []workload {
	switch {
	case compare:
		return comparisons
	case peers:
		return peerWorkloads
	}
	return serviceWorkloads
}

// suite is one run.
type suite struct {
	config
	work string // the directory of this run
	run  measure.Run
	// sustained is what sends reached at 64 connections, for the open loop.
	sustained float64
}

// errInterrupted says that the one who started it wants it to end.
var errInterrupted = errors.New("interrupted: what was measured so far is written down")

// run runs the workloads and writes what they gave, also when one fails.
func run(c *config, chosen []workload, interrupted <-chan os.Signal) (err error) {
	s := &suite{config: *c}
	if s.work, err = os.MkdirTemp(s.dir, "messaging-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.work)) }()
	if s.run, err = begin(c, s.work); err != nil {
		return err
	}
	for _, w := range chosen {
		done := make(chan error, 1)
		s.say("== %s: %s", w.name, w.what)
		go func() { done <- w.run(s) }()
		var failed error
		select {
		case failed = <-done:
		case <-interrupted:
			endAll()
			drop(done)
			failed = errInterrupted
		}
		if err = errors.Join(err, failed); failed != nil {
			break
		}
	}
	return errors.Join(err, s.finish())
}

// drop waits for a workload whose services were taken from it; what it says of
// that is of no interest.
func drop(done <-chan error) {
	select {
	case <-done: //nolint:errcheck // of no interest
	case <-time.After(10 * time.Second):
	}
}

// begin looks at the machine.
func begin(c *config, dir string) (measure.Run, error) {
	began := time.Now()
	machine, err := measure.Inspect(dir, began)
	if err != nil {
		return measure.Run{}, fmt.Errorf("look at the machine: %w", err)
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

// firstLine is the first line that a command prints; some exit with 1 after
// printing their version.
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

// say prints a line of progress.
func (s *suite) say(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// inTurn measures sides in turn and keeps the result.
func (s *suite) inTurn(r measure.Result, sides ...measure.Measured) error {
	return s.turns(r, s.rounds, sides...)
}

// turns is inTurn with another number of rounds.
func (s *suite) turns(r measure.Result, rounds int, sides ...measure.Measured) error {
	err := measure.InTurn(&r, rounds, nil, sides...)
	if err != nil {
		return err
	}
	s.keep(r)
	return nil
}

// keep keeps a result and says it.
func (s *suite) keep(r measure.Result) {
	s.run.Results = append(s.run.Results, r)
	var said []string
	for _, side := range r.Sides {
		said = append(said, fmt.Sprintf("%s %s", side.Name, measure.SpreadOf(side.Values()).Format()))
	}
	s.say("  %s, %s: %s", r.Case, r.Unit, strings.Join(said, "; "))
}
