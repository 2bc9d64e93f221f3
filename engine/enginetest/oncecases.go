package enginetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// onceCases are about sends with an idempotency key.
var onceCases = []testCase{
	{name: "an idempotency key stores once, over a restart, until its window is over", config: Config{IdempotencyWindow: time.Hour}, test: func(r *run) {
		pass(30 * time.Second) // so that nothing is swept at the moment the window ends
		once := messaging.NewOnce("caller", "send", "key", [32]byte{1})
		first, err := r.engine().Send(message(r, "a", "1", messaging.Normal, ""), once)
		if err != nil || first.Duplicate {
			r.Fatalf("%+v %v", first, err)
		}
		r.rig.Restart(true)
		again, err := r.engine().Send(message(r, "a", "1", messaging.Normal, ""), once)
		if err != nil || !again.Duplicate || again.ID != first.ID || again.Sequence != first.Sequence {
			r.Fatalf("%+v %v, first %+v", again, err, first)
		}
		other := once
		other.Hash[0] = 2
		if _, err = r.engine().Send(message(r, "a", "2", messaging.Normal, ""), other); messaging.CodeOf(err) != messaging.CodeIdempotencyConflict {
			r.Fatalf("another body: %v", err)
		}
		r.wantPeek("a", "1")
		elsewhere := messaging.NewOnce("another caller", "send", "key", [32]byte{1})
		if receipt, err := r.engine().Send(message(r, "a", "3", messaging.Normal, ""), elsewhere); err != nil || receipt.Duplicate {
			r.Fatalf("%+v %v", receipt, err)
		}
		pass(time.Hour)
		if receipt, err := r.engine().Send(message(r, "a", "4", messaging.Normal, ""), other); err != nil || receipt.Duplicate {
			r.Fatalf("after the window: %+v %v", receipt, err)
		}
		r.wantPeek("a", "1", "3", "4")
	}},
	{name: "idempotency keys are for batches and broadcasts too", test: func(r *run) {
		for range 2 {
			if _, err := r.engine().SendAll([]messaging.Draft{message(r, "a", "1", messaging.Normal, ""), message(r, "a", "2", messaging.Normal, "")}, messaging.NewOnce("", "batch", "k", [32]byte{})); err != nil {
				r.Fatal(err)
			}
			if _, err := r.engine().Broadcast(broadcastOf(r, "3", "", "a", "b"), messaging.NewOnce("", "broadcast", "k", [32]byte{})); err != nil {
				r.Fatal(err)
			}
		}
		r.wantPeek("a", "1", "2", "3")
	}},
	{name: "concurrent twins store once", test: func(r *run) {
		once := messaging.NewOnce("", "send", "key", [32]byte{1})
		var duplicates atomic.Int64
		var twins sync.WaitGroup
		for range 50 {
			twins.Go(func() {
				receipt, err := r.engine().Send(message(r, "a", "1", messaging.Normal, ""), once)
				if err != nil {
					r.Error(err)
				}
				if receipt.Duplicate {
					duplicates.Add(1)
				}
			})
		}
		twins.Wait()
		if duplicates.Load() != 49 {
			r.Errorf("%d of 50 were duplicates", duplicates.Load())
		}
		r.wantPeek("a", "1")
	}},
}
