package engine_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
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

// TestClockJumps sets the clock while messages are due and expire: they go by
// the time that has passed, until the new time has held for ten minutes.
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
				s.wantQueue("expires") // neither flooded nor expired
				time.Sleep(time.Second + 100*time.Millisecond)
				s.wantQueue("due", "expires")
				s.sendWith("during", `,"delay_seconds":30`)
				time.Sleep(30*time.Second + 100*time.Millisecond)
				s.wantQueue("due", "expires", "during")
				time.Sleep(30 * time.Second)
				s.wantQueue("due", "during")
				time.Sleep(11 * time.Minute) // the new time is believed now
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

func (s *serving) sendWith(text, fields string) {
	s.tb.Helper()
	d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"` + text + `"` + fields + `}`))
	if err != nil {
		s.tb.Fatal(err)
	}
	if _, err := s.engine.Send(d, messaging.Once{}); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *serving) wantQueue(want ...string) {
	s.tb.Helper()
	synctest.Wait()
	got, err := s.engine.Peek("u", 100)
	if err != nil {
		s.tb.Fatal(err)
	}
	wantTexts(s.tb, texts(s.tb, got), want...)
}

func TestRetentionLeavesAMessageThatIsDueLater(t *testing.T) { // invariant 6
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{Retention: time.Hour})}
		s.start()
		defer s.Close()
		s.sendWith("old", "")
		h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		h.Settle(true)
		if _, err := s.engine.Reject("u", []string{h.Messages[0].Receipt}, 3*time.Hour+30*time.Second); err != nil {
			t.Fatal(err)
		}
		s.sendWith("gone", "")
		time.Sleep(2 * time.Hour)
		s.wantQueue("gone")                                           // it stands behind the other in the log
		time.Sleep(time.Hour + 30*time.Second + 100*time.Millisecond) // between two runs of retention
		s.wantQueue("old", "gone")                                    // due now, and as old as may be
		time.Sleep(2 * time.Minute)
		s.wantQueue()
	})
}
