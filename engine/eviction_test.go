package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestFullQueueEvictsOldestOfLowestPriority(t *testing.T) {
	r := newRig(t, engine.Config{QueueMax: 3})
	r.send("u", "h", messaging.High)
	r.send("u", "l1", messaging.Low)
	r.send("u", "l2", messaging.Low)
	r.send("u", "n", messaging.Normal) // evicts l1
	r.send("u", "h2", messaging.High)  // evicts l2
	wantTexts(t, peek(t, r, "u"), "h", "h2", "n")
	r.send("u", "h3", messaging.High) // evicts n
	r.send("u", "l3", messaging.Low)  // evicts the new message itself
	wantTexts(t, peek(t, r, "u"), "h", "h2", "h3")
	r.send("u", "h4", messaging.High) // evicts the oldest of one priority
	wantTexts(t, r.take("u", 10), "h2", "h3", "h4")
	if got := r.engine.Stats().Evicted; got != 5 {
		t.Errorf("%d are counted as evicted, want 5", got)
	}
	if got := r.log.Durable(); got != 8 {
		t.Errorf("the log ends at %d, want 8: evicted messages still go to the backend", got)
	}
}

func TestManySendersIntoAFullQueueKeepCountsEqual(t *testing.T) { // invariant 9
	r := newRig(t, engine.Config{QueueMax: 5})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				r.send("u", fmt.Sprint(i, "-", n), messaging.Priority(n%3))
				if n%7 == 0 {
					h, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 2})
					if err != nil {
						t.Error(err)
						return
					}
					h.Finish(n%2 == 0)
				}
			}
		})
	}
	wg.Wait()
	r.reopen()
	if got := len(r.take("u", 100)); got > 5 {
		t.Errorf("the queue held %d, at most 5 are allowed", got)
	}
}
