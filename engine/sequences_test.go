package engine_test

import (
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestSequencesHaveNoGapsAcrossRestarts(t *testing.T) { // invariant 2
	r := newRig(t, engine.Config{})
	want := uint64(1)
	for range 3 {
		for range 5 {
			if got := r.send("u", "x", messaging.Normal).Sequence; got != want {
				t.Fatalf("sequence %d, want %d", got, want)
			}
			want++
		}
		r.reopen()
	}
}
