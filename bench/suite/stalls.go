package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/go-json-experiment/json"
)

// stalls counts periods in which the whole machine stood still: the host of a virtual
// machine grants it a share of processor time per period and suspends it for the rest.
// No program responds during a stall, and a p99 includes it.
type stalls struct {
	// Watched is false if a process may not have real-time priority.
	Watched bool    `json:"watched"`
	Count   int     `json:"count"`
	Total   float64 `json:"total_ms"`
	Longest float64 `json:"longest_ms"`
}

// String formats the stalls for a note.
func (s stalls) String() string {
	if !s.Watched {
		return "stalls of the machine were not watched (this needs the right to real-time priority)"
	}
	return fmt.Sprintf("meanwhile the machine stalled %d times for at least 2 ms, %.0f ms in total and at most %.1f ms", s.Count, s.Total, s.Longest)
}

// stallFlag makes the program watch for stalls instead of measuring.
const stallFlag = "watch-stalls"

// watchStalls starts a process that watches for stalls. It has real-time priority over
// all others: if it wakes up late, nothing else ran. A goroutine of this process would
// also measure the delays of this process.
func watchStalls() (stop func() (stalls, error), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(context.Background(), self, "-"+stallFlag)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return func() (s stalls, err error) {
		err = errors.Join(in.Close(), c.Wait())
		if err == nil {
			err = json.Unmarshal(out.Bytes(), &s)
		}
		return s, err
	}, nil
}

// reportStalls is the body of the watching process; it runs until its input ends.
func reportStalls(in io.Reader, out io.Writer) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}()
	const nap, late = 500 * time.Microsecond, 2 * time.Millisecond
	s := stalls{Watched: setRealTimePriority() == nil}
	for s.Watched {
		began := time.Now()
		sleep(nap)
		if over := time.Since(began) - nap; over >= late {
			s.Count++
			ms := milliseconds(over)
			s.Total += ms
			s.Longest = max(s.Longest, ms)
		}
		select {
		case <-ended:
			return json.MarshalWrite(out, s)
		default:
		}
	}
	<-ended
	return json.MarshalWrite(out, s)
}
