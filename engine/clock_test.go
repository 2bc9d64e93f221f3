package engine_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging/engine"
)

// wallClock is a clock that can be set.
type wallClock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *wallClock) set(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = offset
}

// TestClockJumps sets the clock while messages become due and expire. Their timers follow
// the elapsed time, until the clocks have agreed for ten minutes.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := &wallClock{}
				s := &serving{rig: newRig(t, engine.Config{Retention: 100 * 24 * time.Hour, Now: clock.now})}
				s.start()
				defer s.Close()
				s.sendWith("due", `,"delay_seconds":60`)
				s.sendWith("far", `,"delay_seconds":36000`)
				s.sendWith("expires", `,"ttl_seconds":120`)
				clock.set(jump)
				time.Sleep(59 * time.Second)
				s.wantQueue("expires") // not all at once, and not expired
				time.Sleep(time.Second + 100*time.Millisecond)
				s.wantQueue("due", "expires")
				s.sendWith("during", `,"delay_seconds":30`)
				time.Sleep(30*time.Second + 100*time.Millisecond)
				s.wantQueue("due", "expires", "during")
				time.Sleep(30 * time.Second)
				s.wantQueue("due", "during")
				time.Sleep(11 * time.Minute) // the new time counts now
				s.sendWith("after", `,"delay_seconds":30`)
				time.Sleep(30*time.Second + 100*time.Millisecond)
				if jump > 0 {
					s.wantQueue("due", "far", "during", "after")
				} else {
					s.wantQueue("due", "during", "after")
				}
			})
		})
	}
}
