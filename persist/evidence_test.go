package persist

import (
	"testing"
	"time"
)

func TestEvidence(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		stored   time.Duration // when something was stored, before or after the first try
		never    bool
		voided   bool
		poisoned bool
	}{
		"never":                 {never: true},
		"long before":           {stored: -time.Minute - time.Second},
		"just within reach":     {stored: -time.Minute, poisoned: true},
		"after":                 {stored: time.Second, poisoned: true},
		"then all were refused": {stored: -time.Second, voided: true},
	} {
		var e Evidence
		if !c.never {
			e.sawStored(now.Add(c.stored))
		}
		if c.voided {
			e.void()
		}
		if got := e.speaksAgainst(now); got != c.poisoned {
			t.Errorf("%s: poison is %t, want %t", name, got, c.poisoned)
		}
	}
}

func TestBackoffStaysWithinItsLimit(t *testing.T) {
	for n := range 70 {
		if d := backoff(n, 30*time.Second); d <= 0 || d > 30*time.Second+time.Millisecond {
			t.Errorf("try %d waits %s", n, d)
		}
	}
}
