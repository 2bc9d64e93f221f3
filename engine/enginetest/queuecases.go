package enginetest

import (
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// queueCases are about the contents of a queue, and their order.
var queueCases = []testCase{
	{name: "higher priorities first, each in its order", test: func(r *run) {
		for i, p := range []messaging.Priority{messaging.Low, messaging.Normal, messaging.High, messaging.Low, messaging.High} {
			r.send("a", fmt.Sprint(i), p)
		}
		r.wantTake("a", 10, 0, "2", "4", "1", "0", "3")
		r.wantTake("a", 10, 0)
	}},
	{name: "a batch is stored whole and in order", test: func(r *run) {
		drafts := make([]messaging.Draft, 100)
		for i := range drafts {
			drafts[i] = message(r, fmt.Sprint("u", i%3), fmt.Sprint(i), messaging.Normal, "")
		}
		before := r.send("x", "before", messaging.Normal)
		result, err := r.engine().SendAll(drafts, messaging.IdempotencyKey{})
		if err != nil || result.Count != 100 || result.Sequence != before.Sequence+1 {
			r.Fatalf("%+v %v", result, err)
		}
		got := r.take("u1", 100, 0)
		for i, m := range got {
			n := 1 + 3*i
			if textOf(&m) != fmt.Sprint(n) || m.ID != messaging.BatchID(result.ID, n) || m.Position.Sequence != result.Sequence+uint64(n) {
				r.Fatalf("message %d of the queue is %s, %s at %d", i, textOf(&m), m.ID, m.Position.Sequence)
			}
		}
	}},
	{name: "a clear removes everything, including leased and delayed messages", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		held := receipts(r.take("a", 1, time.Hour))
		r.send("a", "2", messaging.High)
		r.send("a", "3", messaging.Low, `"delay_seconds":5`, `"ttl_seconds":50`)
		r.send("b", "other", messaging.Low)
		if n, err := r.engine().Clear("a"); err != nil || n != 3 {
			r.Fatalf("cleared %d (%v), want 3", n, err)
		}
		outcomes, err := r.engine().Acknowledge("a", held)
		r.wantOutcomes(outcomes, err, messaging.Unknown)
		r.send("a", "4", messaging.Normal)
		pass(time.Hour)
		r.rig.Restart(true)
		r.wantPeek("a", "4")
		r.wantPeek("b", "other")
		if n, err := r.engine().Clear("nobody"); err != nil || n != 0 {
			r.Fatalf("cleared %d (%v), want 0", n, err)
		}
	}},
	{name: "a full queue evicts the oldest of the lowest priority, in whatever state", config: Config{QueueMax: 3}, test: func(r *run) {
		r.send("a", "low", messaging.Low)
		held := receipts(r.take("a", 1, time.Hour))
		r.send("a", "delayed", messaging.Normal, `"delay_seconds":5`)
		r.send("a", "1", messaging.Normal)
		r.send("a", "2", messaging.Normal)
		outcomes, err := r.engine().Acknowledge("a", held)
		r.wantOutcomes(outcomes, err, messaging.Unknown)
		r.wantSize("a", messaging.Counts{Normal: 2, Delayed: 1})
		r.send("a", "3", messaging.High)
		r.wantSize("a", messaging.Counts{High: 1, Normal: 2})
		r.send("a", "itself", messaging.Low)
		r.wantPeek("a", "3", "1", "2")
	}},
	{name: "each receiver of a broadcast has its own copy", test: func(r *run) {
		result := r.broadcast("all", `,"delay_seconds":5`, "a", "b")
		r.wantSize("a", messaging.Counts{Delayed: 1})
		pass(5 * time.Second)
		a, b := r.wantTake("a", 1, time.Minute, "all"), r.wantTake("b", 1, 0, "all")
		if a[0].ID == b[0].ID || a[0].ID != messaging.CopyID(result.ID, "a") || a[0].Position.Sequence != result.Sequence {
			r.Errorf("ids %s and %s of %s", a[0].ID, b[0].ID, result.ID)
		}
	}},
	{
		name: "with weights no priority starves", config: Config{Weights: [messaging.Priorities]int{8, 4, 1}},
		test: func(r *run) {
			for i := range 26 {
				for p := messaging.High; p <= messaging.Low; p++ {
					r.send("a", fmt.Sprintf("%s%d", p, i), p)
				}
			}
			var served [messaging.Priorities]int
			for i := range 26 {
				got := r.take("a", 1, 0)[0]
				if want := fmt.Sprintf("%s%d", got.Priority, served[got.Priority]); textOf(&got) != want {
					r.Fatalf("take %d returned %s, want %s: the order within a priority must not change", i, textOf(&got), want)
				}
				served[got.Priority]++
			}
			if served != [messaging.Priorities]int{16, 8, 2} {
				r.Errorf("26 takes served %v, want 16, 8 and 2", served)
			}
			served = [messaging.Priorities]int{}
			for _, m := range r.take("a", 13, 0) {
				served[m.Priority]++
			}
			if served != [messaging.Priorities]int{8, 4, 1} {
				r.Errorf("13 in one take were %v, want 8, 4 and 1", served)
			}
		},
	},
}
