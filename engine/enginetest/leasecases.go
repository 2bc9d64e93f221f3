package enginetest

import (
	"strings"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// leaseCases are about leases, receipts, and messages that are not acknowledged.
var leaseCases = []testCase{
	{name: "an expired lease requeues its message in order", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		r.send("a", "2", messaging.Normal)
		first := r.wantTake("a", 1, 30*time.Second, "1")
		if first[0].Deliveries != 1 || first[0].Receipt == "" {
			r.Fatalf("under a lease it has receipt %q and deliveries %d", first[0].Receipt, first[0].Deliveries)
		}
		r.wantSize("a", messaging.Counts{Normal: 1, Leased: 1})
		pass(30*time.Second - time.Millisecond)
		r.wantPeek("a", "2")
		pass(time.Millisecond)
		r.wantPeek("a", "1", "2")
		if again := r.wantTake("a", 1, 30*time.Second, "1"); again[0].Deliveries != 2 {
			r.Fatalf("%d deliveries, want 2", again[0].Deliveries)
		}
	}},
	{name: "an acknowledged message is removed durably", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		got := r.take("a", 1, time.Second)
		outcomes, err := r.engine().Acknowledge("a", receipts(got))
		r.wantOutcomes(outcomes, err, messaging.Acked)
		r.rig.Restart(true)
		pass(time.Minute)
		r.wantTake("a", 10, 0)
		r.wantSize("a", messaging.Counts{})
	}},
	{name: "a late receipt is expired and changes nothing", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		old := receipts(r.take("a", 1, time.Second))
		pass(time.Second)
		outcomes, err := r.engine().Acknowledge("a", old)
		r.wantOutcomes(outcomes, err, messaging.Expired)
		fresh := receipts(r.wantTake("a", 1, time.Hour, "1"))
		for _, call := range []func(messaging.UserID, []string) ([]messaging.Outcome, error){
			r.engine().Acknowledge,
			func(u messaging.UserID, l []string) ([]messaging.Outcome, error) { return r.engine().Nack(u, l, 0) },
			func(u messaging.UserID, l []string) ([]messaging.Outcome, error) {
				return r.engine().Nack(u, l, time.Second)
			},
			func(u messaging.UserID, l []string) ([]messaging.Outcome, error) {
				return r.engine().Extend(u, l, time.Second)
			},
		} {
			outcomes, err = call("a", old)
			r.wantOutcomes(outcomes, err, messaging.Expired)
		}
		r.wantSize("a", messaging.Counts{Leased: 1})
		outcomes, err = r.engine().Acknowledge("a", fresh)
		r.wantOutcomes(outcomes, err, messaging.Acked)
		outcomes, err = r.engine().Acknowledge("a", append(fresh, old...))
		r.wantOutcomes(outcomes, err, messaging.Unknown, messaging.Unknown)
	}},
	{name: "foreign receipts are unknown", test: func(r *run) {
		r.broadcast("all", "", "a", "b")
		mine, theirs := receipts(r.take("a", 1, time.Hour)), receipts(r.take("b", 1, time.Hour))
		outcomes, err := r.engine().Acknowledge("a", []string{theirs[0], "", "x", strings.Repeat("A", 5000), mine[0] + "A", mine[0]})
		r.wantOutcomes(outcomes, err, messaging.Unknown, messaging.Unknown, messaging.Unknown, messaging.Unknown, messaging.Unknown, messaging.Acked)
		r.wantSize("b", messaging.Counts{Leased: 1})
	}},
	{name: "a nacked message comes back at once, or after its delay across a restart", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		r.send("a", "2", messaging.Normal)
		got := r.take("a", 2, time.Hour)
		outcomes, err := r.engine().Nack("a", receipts(got[:1]), 0)
		r.wantOutcomes(outcomes, err, messaging.Nacked)
		r.wantPeek("a", "1")
		outcomes, err = r.engine().Nack("a", receipts(got[1:]), 10*time.Second)
		r.wantOutcomes(outcomes, err, messaging.Nacked)
		r.wantSize("a", messaging.Counts{Normal: 1, Delayed: 1})
		r.rig.Restart(true)
		pass(10*time.Second - 100*time.Millisecond)
		r.wantPeek("a", "1")
		pass(200 * time.Millisecond)
		r.wantPeek("a", "1", "2")
		if again := r.take("a", 2, time.Hour); again[0].Deliveries != 2 || again[1].Deliveries != 2 {
			r.Fatalf("%d and %d deliveries, want 2 and 2", again[0].Deliveries, again[1].Deliveries)
		}
	}},
	{name: "an extended lease ends later", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		got := receipts(r.take("a", 1, 10*time.Second))
		pass(9 * time.Second)
		outcomes, err := r.engine().Extend("a", got, 20*time.Second)
		r.wantOutcomes(outcomes, err, messaging.Extended)
		pass(19 * time.Second)
		r.wantPeek("a")
		pass(time.Second)
		r.wantPeek("a", "1")
		outcomes, err = r.engine().Extend("a", got, 20*time.Second)
		r.wantOutcomes(outcomes, err, messaging.Expired)
	}},
	{name: "an extended lease may end sooner", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		outcomes, err := r.engine().Extend("a", receipts(r.take("a", 1, time.Hour)), time.Second)
		r.wantOutcomes(outcomes, err, messaging.Extended)
		pass(time.Second)
		r.wantPeek("a", "1")
	}},
	{name: "a restart ends leases and keeps deliveries", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		old := receipts(r.take("a", 1, time.Hour))
		r.rig.Restart(true)
		r.wantPeek("a", "1")
		outcomes, err := r.engine().Acknowledge("a", old)
		r.wantOutcomes(outcomes, err, messaging.Expired)
		if again := r.take("a", 1, time.Hour); again[0].Deliveries != 2 {
			r.Fatalf("%d deliveries, want 2", again[0].Deliveries)
		}
	}},
	{name: "a leased delivery that did not arrive is not counted", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		h, err := r.engine().Take(r.Context(), "a", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
		if err != nil {
			r.Fatal(err)
		}
		h.Finish(false)
		synctest.Wait()
		outcomes, err := r.engine().Acknowledge("a", receipts(h.Messages))
		r.wantOutcomes(outcomes, err, messaging.Expired)
		if again := r.wantTake("a", 1, time.Hour, "1"); again[0].Deliveries != 1 {
			r.Fatalf("%d deliveries, want 1", again[0].Deliveries)
		}
	}},
	{name: "an exhausted message becomes a dead letter, and a redrive requeues it in order", config: Config{MaxDeliveries: 2}, test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		r.send("a", "2", messaging.Normal)
		r.wantTake("a", 1, time.Second, "1")
		pass(time.Second)
		outcomes, err := r.engine().Nack("a", receipts(r.wantTake("a", 1, time.Second, "1")), 0)
		r.wantOutcomes(outcomes, err, messaging.Nacked)
		synctest.Wait()
		r.wantPeek("a", "2")
		letters := undeliverable(r, r.rig)
		if len(letters) != 1 || textOf(&letters[0].Message) != "1" || letters[0].Attempts != 2 {
			r.Fatalf("dead letters %+v", letters)
		}
		results, err := r.rig.DeadLetters().RequeueDeadLetters(recipientsOf(r, r.rig, &letters[0]), messaging.Progress{})
		if err != nil || results[0] != (messaging.RequeueResult{}) {
			r.Fatalf("redrive: %+v %v", results, err)
		}
		if left := undeliverable(r, r.rig); len(left) != 0 {
			r.Fatalf("%d dead letters are left", len(left))
		}
		again := r.wantTake("a", 2, time.Second, "1", "2")
		if again[0].ID != letters[0].Message.ID || again[0].Deliveries != 1 {
			r.Fatalf("it came back as %s with %d deliveries", again[0].ID, again[0].Deliveries)
		}
	}},
	{name: "the last delivery counts across a restart", config: Config{MaxDeliveries: 1}, test: func(r *run) {
		r.broadcast("1", "", "a", "b")
		r.send("a", "2", messaging.Normal)
		r.wantTake("a", 1, time.Hour, "1")
		r.rig.Restart(true)
		r.wantTake("a", 10, time.Hour, "2")
		synctest.Wait()
		letters := undeliverable(r, r.rig)
		if len(letters) != 1 || letters[0].Message.Receiver.User != "a" {
			r.Fatalf("dead letters %+v", letters)
		}
		r.wantPeek("b", "1")
	}},
}
