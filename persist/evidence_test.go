package persist

import (
	"testing"
	"time"
)

func TestEvidence(t *testing.T) {
	var e Evidence
	if !e.last().IsZero() {
		t.Error("there is evidence before anything was stored")
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	e.apply(evidenceStored, now)
	e.apply(evidenceUnchanged, now.Add(time.Minute))
	if !e.last().Equal(now) {
		t.Errorf("something was stored at %s, want %s", e.last(), now)
	}
	e.apply(evidenceReset, now.Add(time.Minute))
	if !e.last().IsZero() {
		t.Error("there is evidence after a whole batch was refused")
	}
}

func TestBackoffStaysWithinItsLimit(t *testing.T) {
	for n := range 70 {
		if d := backoff(n, 30*time.Second); d <= 0 || d > 30*time.Second+time.Millisecond {
			t.Errorf("try %d waits %s", n, d)
		}
	}
}
