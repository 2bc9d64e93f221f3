package faultinjection_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
)

const (
	// overloadUsers is how many users the messages go to.
	overloadUsers = 200
	// overloadMemory is how much memory the service may use under overload: the garbage
	// collector's limit and the rest of the process.
	overloadMemory = 512 << 20
)

// TestRigOverload sends to the real program at twice its sustained rate, in an open
// loop: refusals do not slow later sends down. The latency of accepted sends must not
// grow with the duration of the overload, refused sends must get a time to retry, and
// exactly the accepted messages must be present.
func TestRigOverload(t *testing.T) {
	torture.Run(t, 1, func(r *torture.Round) { overloadRound(r, 1500*time.Millisecond, 4*time.Second) })
}

// TestRigOverloadCatchesAnUnboundedQueue overloads a server that accepts every request
// and serves one at a time.
func TestRigOverloadCatchesAnUnboundedQueue(t *testing.T) {
	torture.Control(t, 3, func(r *torture.Round) {
		turn := make(chan struct{}, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			turn <- struct{}{}
			time.Sleep(10 * time.Millisecond) // a fixed rate, independent of the machine's noise
			<-turn
			w.WriteHeader(http.StatusOK)
		}))
		r.Cleanup(server.Close)
		c := newSender(server.URL, 1)
		calm := c.closedLoop(16, time.Second)
		overload(r, c, calm.perSecond(), 3*time.Second).check(r)
	})
}

func overloadRound(r *torture.Round, calmFor, busyFor time.Duration) {
	v := startTarget(r, overloadConfig())
	c := newSender(v.URL, overloadUsers)
	calm := c.closedLoop(32, calmFor)
	busy := overload(r, c, calm.perSecond(), busyFor)
	for try := 0; busy.grows() && try < 2; try++ { // another process may have used the machine
		busy = overload(r, c, calm.perSecond(), busyFor)
	}
	busy.check(r)
	if peak := v.peak(); peak > overloadMemory {
		r.Errorf("the service used %d MiB under overload, want at most %d", mebibytes(peak), mebibytes(overloadMemory))
	}
	again := c.closedLoop(32, calmFor)
	r.Logf("before: %s; overload: %s and %s, refused %s; after: %s; peak %d MiB",
		calm.accepted(), busy.halves[0], busy.halves[1], busy.refused, again.accepted(), mebibytes(v.peak()))
	if before, after := calm.accepted().percentile(50), again.accepted().percentile(50); after > 5*before+100*time.Millisecond {
		r.Errorf("a send takes %s after the overload, and took %s before", after, before)
	}
	v.checkMessages(c)
	r.Count("accepted", len(c.ids))
	r.Count("refused", len(busy.refused))
}

// overloadConfig runs the service on one processor if there are more: the load
// generator must be able to offer twice the service's capacity.
func overloadConfig() program.Config {
	config := program.Config{Env: []string{"GOMEMLIMIT=256MiB"}}
	if path, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		config.Prefix = []string{path, "-c", "0"}
	}
	return config
}

// overloadResult is the result of sends beyond the service's capacity.
type overloadResult struct {
	offered, sustained float64      // per second
	halves             [2]latencies // latencies of the accepted sends, by when they were sent
	refused            latencies
	withoutRetryAfter  int            // refused without Retry-After
	other              map[string]int // responses and failures that must not occur
}

// overload offers twice the sustained rate.
func overload(r *torture.Round, c *sender, sustained float64, lasting time.Duration) *overloadResult {
	r.Helper()
	if sustained < 1 {
		r.Fatal("nothing was accepted without overload")
	}
	o := &overloadResult{sustained: sustained, other: make(map[string]int)}
	results := c.openLoop(int(2*sustained), lasting)
	o.offered = float64(len(results)) / lasting.Seconds()
	for _, s := range results {
		switch s.status {
		case http.StatusOK:
			half := 0
			if s.at > lasting/2 {
				half = 1
			}
			o.halves[half] = append(o.halves[half], s.took)
		case http.StatusServiceUnavailable:
			o.refused = append(o.refused, s.took)
			if s.header.Get("Retry-After") == "" {
				o.withoutRetryAfter++
			}
		default:
			o.other[fmt.Sprintf("%d %s", s.status, s.failure)]++
		}
	}
	return o
}

// grows reports whether the latency of accepted sends grows during the overload.
func (o *overloadResult) grows() bool {
	first, second := o.halves[0].percentile(99), o.halves[1].percentile(99)
	return second > time.Second && second > first+first/3
}

// check reports a latency that grows with the overload. The bound compares within one
// run and is generous, because the machine's other work is included.
func (o *overloadResult) check(r *torture.Round) {
	r.Helper()
	if first, second := o.halves[0].percentile(99), o.halves[1].percentile(99); o.grows() {
		r.Errorf("accepted sends took %s (p99) in the first half and %s in the second: the latency grows", first, second)
	}
	if o.withoutRetryAfter > 0 {
		r.Errorf("%d were refused without Retry-After", o.withoutRetryAfter)
	}
	if len(o.other) > 0 {
		r.Errorf("neither accepted nor refused: %v", o.other)
	}
	if len(o.halves[0]) == 0 || len(o.halves[1]) == 0 {
		r.Errorf("accepted %d, and then %d: almost no send is accepted", len(o.halves[0]), len(o.halves[1]))
	}
	if o.offered < 1.2*o.sustained {
		r.Logf("this machine could offer %.0f per second, which does not overload a service that sustains %.0f", o.offered, o.sustained)
	}
}
