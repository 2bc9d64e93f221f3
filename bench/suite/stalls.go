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

// stalls is when the machine as a whole stood still: a virtual one whose host
// gives it so much processor time every so often, and takes the rest away. No
// program on it answers meanwhile, and a p99 has it in it.
type stalls struct {
	// Watched is false where a process may not have real-time priority.
	Watched bool    `json:"watched"`
	Count   int     `json:"count"`
	Total   float64 `json:"total_ms"`
	Longest float64 `json:"longest_ms"`
}

// String says it for a note.
func (s stalls) String() string {
	if !s.Watched {
		return "whether the machine stood still meanwhile is not known (it takes the right to real-time priority)"
	}
	return fmt.Sprintf("the machine stood still %d times meanwhile for 2 ms and more, %.0f ms in all and %.1f ms at the longest", s.Count, s.Total, s.Longest)
}

// stallFlag makes the program watch instead of measuring.
const stallFlag = "watch-stalls"

// watchStalls lets a process of its own watch, which runs before all others
// whenever it wants to: when it wakes up late, nothing else ran. A goroutine of
// this process would wait for this process too.
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

// reportStalls is the process that watches: until its input ends.
func reportStalls(in io.Reader, out io.Writer) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}()
	const nap, late = 500 * time.Microsecond, 2 * time.Millisecond
	s := stalls{Watched: beforeAllOthers() == nil}
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
