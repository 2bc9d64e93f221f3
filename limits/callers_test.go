package limits

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestJobsOfACaller(t *testing.T) {
	s := NewCallers().Of("a", Bounds{Jobs: 2})
	running := map[string]bool{"one": true, "two": true}
	isRunning := func(id string) bool { return running[id] }
	for i, step := range []struct {
		start   string
		end     string
		allowed bool
	}{{"one", "", true}, {"two", "", true}, {"three", "", false}, {"three", "one", true}, {"four", "", false}} {
		running[step.end] = false
		err := s.StartJob(isRunning)
		if (err == nil) != step.allowed {
			t.Errorf("step %d: %v, want allowed %t", i, err, step.allowed)
		}
		if err == nil {
			running[step.start] = true
			s.Started(step.start)
		}
	}
}

// New bounds are in force at once, and count what the caller holds already.
func TestBoundsOfACallerChange(t *testing.T) {
	c := NewCallers()
	s := c.Of("a", Bounds{LongPolls: 2})
	for range 2 {
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if c.Of("a", Bounds{LongPolls: 3}) != s || s.Wait() != nil {
		t.Error("a higher limit is not in force")
	}
	c.Of("a", Bounds{LongPolls: 1})
	s.EndWait()
	s.EndWait()
	if s.Wait() == nil {
		t.Error("a lower limit is not in force")
	}
	if c.Of("b", Bounds{}) != nil {
		t.Error("a caller without limits has a share")
	}
}

func TestMemoryOfCallersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCallers()
		held := c.Of("held", Bounds{Connections: 1})
		if err := held.Connect(); err != nil {
			t.Fatal(err)
		}
		for i := range 2 * maxShares {
			if i%(maxShares/4) == 0 {
				time.Sleep(idleShare)
			}
			c.Of(fmt.Sprint(i), Bounds{RequestsPerSecond: 1})
		}
		if n := len(c.shares); n > maxShares+maxShares/4 {
			t.Errorf("%d callers are kept, want about %d", n, maxShares)
		}
		if c.Of("held", Bounds{Connections: 1}) != held {
			t.Error("a caller with a connection is forgotten")
		}
	})
}
