package rigs_test

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
	// overloadUsers are who the messages go to.
	overloadUsers = 200
	// overloadMemory is what the service may have under overload, the limit of
	// the garbage collector and what is not its own.
	overloadMemory = 512 << 20
)

// TestRigOverload offers the real program twice the sends that it can take, in
// an open loop: whoever is refused does not slow the next one down. What is
// accepted must not wait for longer the longer that goes on, the rest is told
// when to come back, and all that was accepted is there, and nothing else.
func TestRigOverload(t *testing.T) {
	torture.Run(t, 1, func(r *torture.Round) { overloadRound(r, 1500*time.Millisecond, 4*time.Second) })
}

// TestRigOverloadCatchesAQueueWithoutEnd overloads a server that accepts
// everything, and does it one after the other.
func TestRigOverloadCatchesAQueueWithoutEnd(t *testing.T) {
	torture.Control(t, 3, func(r *torture.Round) {
		turn := make(chan struct{}, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			turn <- struct{}{}
			time.Sleep(10 * time.Millisecond) // which the noise of the machine does not change
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
	v := startVictim(r, overloadConfig())
	c := newSender(v.URL, overloadUsers)
	calm := c.closedLoop(32, calmFor)
	busy := overload(r, c, calm.perSecond(), busyFor)
	for try := 0; busy.grows() && try < 2; try++ { // others may have had the machine
		busy = overload(r, c, calm.perSecond(), busyFor)
	}
	busy.check(r)
	if peak := v.peak(); peak > overloadMemory {
		r.Errorf("the service had %d MiB under overload, want at most %d", mebibytes(peak), mebibytes(overloadMemory))
	}
	again := c.closedLoop(32, calmFor)
	r.Logf("before: %s; overload: %s and %s, refused %s; after: %s; peak %d MiB",
		calm.accepted(), busy.halves[0], busy.halves[1], busy.refused, again.accepted(), mebibytes(v.peak()))
	if before, after := calm.accepted().percentile(50), again.accepted().percentile(50); after > 5*before+100*time.Millisecond {
		r.Errorf("a send takes %s after the overload, and took %s before", after, before)
	}
	v.holds(c)
	r.Count("accepted", len(c.ids))
	r.Count("refused", len(busy.refused))
}

// overloadConfig gives the service one processor of its own where there are
// more: the load has to be able to offer twice of what that takes.
func overloadConfig() program.Config {
	config := program.Config{Env: []string{"GOMEMLIMIT=256MiB"}}
	if path, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		config.Prefix = []string{path, "-c", "0"}
	}
	return config
}

// overloaded is what became of sends beyond what the service takes.
type overloaded struct {
	offered, sustained float64      // a second
	halves             [2]latencies // of what was accepted, by when it was sent
	refused            latencies
	hasty              int            // refused without a time to come back
	other              map[string]int // answers and failures that there must not be
}

// overload offers twice of what is sustained.
func overload(r *torture.Round, c *sender, sustained float64, lasting time.Duration) *overloaded {
	r.Helper()
	if sustained < 1 {
		r.Fatal("nothing was accepted without overload")
	}
	o := &overloaded{sustained: sustained, other: make(map[string]int)}
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
				o.hasty++
			}
		default:
			o.other[fmt.Sprintf("%d %s", s.status, s.failure)]++
		}
	}
	return o
}

// grows says whether what is accepted waits for longer, the longer it goes on.
func (o *overloaded) grows() bool {
	first, second := o.halves[0].percentile(99), o.halves[1].percentile(99)
	return second > time.Second && second > first+first/3
}

// check looks for a wait that grows with the overload. The bound is within one
// run, and generous: the machine's other work is in it too.
func (o *overloaded) check(r *torture.Round) {
	r.Helper()
	if first, second := o.halves[0].percentile(99), o.halves[1].percentile(99); o.grows() {
		r.Errorf("what was accepted in the first half took %s (p99), in the second %s: it grows", first, second)
	}
	if o.hasty > 0 {
		r.Errorf("%d were refused without Retry-After", o.hasty)
	}
	if len(o.other) > 0 {
		r.Errorf("neither accepted nor refused: %v", o.other)
	}
	if len(o.halves[0]) == 0 || len(o.halves[1]) == 0 {
		r.Errorf("accepted %d, and then %d: nothing gets through", len(o.halves[0]), len(o.halves[1]))
	}
	if o.offered < 1.2*o.sustained {
		r.Logf("this machine could offer %.0f a second, which is no overload to a service that takes %.0f", o.offered, o.sustained)
	}
}
