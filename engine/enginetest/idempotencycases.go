package enginetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// idempotencyCases are about sends with an idempotency key.
var idempotencyCases = []testCase{
	{name: "an idempotency key stores once, across a restart, until its window ends", config: Config{IdempotencyWindow: time.Hour}, test: func(r *run) {
		pass(30 * time.Second) // so that no sweep runs at the end of the window
		key := messaging.NewIdempotencyKey("caller", "send", "key", [32]byte{1})
		first, err := r.engine().Send(message(r, "a", "1", messaging.Normal, ""), key)
		if err != nil || first.Duplicate {
			r.Fatalf("%+v %v", first, err)
		}
		r.rig.Restart(true)
		again, err := r.engine().Send(message(r, "a", "1", messaging.Normal, ""), key)
		if err != nil || !again.Duplicate || again.ID != first.ID || again.Sequence != first.Sequence {
			r.Fatalf("%+v %v, first %+v", again, err, first)
		}
		other := key
		other.Hash[0] = 2
		if _, err = r.engine().Send(message(r, "a", "2", messaging.Normal, ""), other); messaging.CodeOf(err) != messaging.CodeIdempotencyConflict {
			r.Fatalf("another body: %v", err)
		}
		r.wantPeek("a", "1")
		elsewhere := messaging.NewIdempotencyKey("another caller", "send", "key", [32]byte{1})
		if result, err := r.engine().Send(message(r, "a", "3", messaging.Normal, ""), elsewhere); err != nil || result.Duplicate {
			r.Fatalf("%+v %v", result, err)
		}
		pass(time.Hour)
		if result, err := r.engine().Send(message(r, "a", "4", messaging.Normal, ""), other); err != nil || result.Duplicate {
			r.Fatalf("after the window: %+v %v", result, err)
		}
		r.wantPeek("a", "1", "3", "4")
	}},
	{name: "idempotency keys work for batches and broadcasts", test: func(r *run) {
		for range 2 {
			if _, err := r.engine().SendAll([]messaging.Draft{
				message(r, "a", "1", messaging.Normal, ""), message(r, "a", "2", messaging.Normal, ""),
			}, messaging.NewIdempotencyKey("", "batch", "k", [32]byte{})); err != nil {
				r.Fatal(err)
			}
			if _, err := r.engine().Broadcast(broadcastOf(r, "3", "", "a", "b"), messaging.NewIdempotencyKey("", "broadcast", "k", [32]byte{})); err != nil {
				r.Fatal(err)
			}
		}
		r.wantPeek("a", "1", "2", "3")
	}},
	{name: "concurrent sends with one key store once", test: func(r *run) {
		key := messaging.NewIdempotencyKey("", "send", "key", [32]byte{1})
		var duplicates atomic.Int64
		var sends sync.WaitGroup
		for range 50 {
			sends.Go(func() {
				result, err := r.engine().Send(message(r, "a", "1", messaging.Normal, ""), key)
				if err != nil {
					r.Error(err)
				}
				if result.Duplicate {
					duplicates.Add(1)
				}
			})
		}
		sends.Wait()
		if duplicates.Load() != 49 {
			r.Errorf("%d of 50 were duplicates", duplicates.Load())
		}
		r.wantPeek("a", "1")
	}},
}
