package engine_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestRetentionRemovesOldMessagesUpToTheDrain(t *testing.T) { // invariant 6
	var mu sync.Mutex
	now := time.Now()
	settled := messaging.Position{Sequence: 1}
	r := newRig(t, engine.Config{
		Retention:     time.Hour,
		Now:           func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		DrainPosition: func() messaging.Position { mu.Lock(); defer mu.Unlock(); return settled },
	})
	for i := range 10 {
		r.send("u", strconv.Itoa(i), messaging.Normal)
	}
	r.broadcast("old", "u", "v")
	wantTexts(t, r.take("u", 2), "0", "1")
	r.advanceWithoutJump(&mu, &now, 30*time.Minute)
	r.send("u", "young", messaging.Normal)
	r.advanceWithoutJump(&mu, &now, 45*time.Minute)
	r.wantTrimmed(0) // the drain has settled nothing
	mu.Lock()
	settled.Sequence = 6
	mu.Unlock()
	r.wantTrimmed(5)
	mu.Lock()
	settled.Sequence = 1000
	mu.Unlock()
	r.wantTrimmed(7) // five sends, and a broadcast to two
	r.reopen()
	wantTexts(t, r.take("u", 100), "young")
	wantTexts(t, r.take("v", 100))
	if got := r.send("u", "next", messaging.Normal).Sequence; got != 13 {
		t.Errorf("after trimming the next sequence is %d, want 13", got)
	}
}

// advanceWithoutJump advances the clock. It opens the engine again, so that the clock
// guard sees no jump.
func (r *rig) advanceWithoutJump(mu *sync.Mutex, now *time.Time, d time.Duration) {
	mu.Lock()
	*now = now.Add(d)
	mu.Unlock()
	r.reopen()
}

func (r *rig) wantTrimmed(want uint64) {
	r.tb.Helper()
	got, err := r.engine.Trim(context.Background())
	if err != nil || got != want {
		r.tb.Fatalf("%d messages were trimmed (%v), want %d", got, err, want)
	}
}

func TestRetentionWaitsWhenTheClockWasSet(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	r := newRig(t, engine.Config{Retention: time.Hour, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	r.send("u", "x", messaging.Normal)
	mu.Lock()
	now = now.Add(24 * time.Hour) // no time has passed
	mu.Unlock()
	r.wantTrimmed(0)
	wantTexts(t, r.take("u", 1), "x")
}

func TestRetentionKeepsADelayedMessage(t *testing.T) { // invariant 6
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{Retention: time.Hour})}
		s.start()
		defer s.Close()
		s.sendWith("old", "")
		h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		h.Finish(true)
		if _, err := s.engine.Nack("u", []string{h.Messages[0].Receipt}, 3*time.Hour+30*time.Second); err != nil {
			t.Fatal(err)
		}
		s.sendWith("gone", "")
		time.Sleep(2 * time.Hour)
		s.wantQueue() // the delayed message keeps no other
		s.wantLeft(1)
		time.Sleep(time.Hour + 30*time.Second + 100*time.Millisecond) // between two runs of retention
		s.wantQueue("old")                                            // due now, at the age of the retention
		time.Sleep(2 * time.Minute)
		s.wantQueue()
		if first := s.log.FirstSequence(); first != 3 {
			t.Errorf("the first sequence is %d, want 3: nothing is left", first)
		}
	})
}
