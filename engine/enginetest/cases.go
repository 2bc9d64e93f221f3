package enginetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// testCase is one promise of the contract.
type testCase struct {
	name   string
	config Config
	test   func(r *run)
}

var cases = []testCase{
	{name: "higher priorities first, each in its order", test: func(r *run) {
		for i, p := range []messaging.Priority{messaging.Low, messaging.Normal, messaging.High, messaging.Low, messaging.High} {
			r.send("a", fmt.Sprint(i), p)
		}
		r.wantTake("a", 10, 0, "2", "4", "1", "0", "3")
		r.wantTake("a", 10, 0)
	}},
	{name: "a lease that runs out puts a message back into its place", test: func(r *run) {
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
	{name: "an acknowledged message is gone for good", test: func(r *run) {
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
			func(u messaging.UserID, l []string) ([]messaging.Outcome, error) { return r.engine().Reject(u, l, 0) },
			func(u messaging.UserID, l []string) ([]messaging.Outcome, error) {
				return r.engine().Reject(u, l, time.Second)
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
	{name: "a rejected message comes back at once, or after its delay over a restart", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		r.send("a", "2", messaging.Normal)
		got := r.take("a", 2, time.Hour)
		outcomes, err := r.engine().Reject("a", receipts(got[:1]), 0)
		r.wantOutcomes(outcomes, err, messaging.Nacked)
		r.wantPeek("a", "1")
		outcomes, err = r.engine().Reject("a", receipts(got[1:]), 10*time.Second)
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
	{name: "a restart frees leases and keeps deliveries", test: func(r *run) {
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
	{name: "a lease whose answer did not arrive is no delivery", test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		h, err := r.engine().Take(r.Context(), "a", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
		if err != nil {
			r.Fatal(err)
		}
		h.Settle(false)
		synctest.Wait()
		outcomes, err := r.engine().Acknowledge("a", receipts(h.Messages))
		r.wantOutcomes(outcomes, err, messaging.Expired)
		if again := r.wantTake("a", 1, time.Hour, "1"); again[0].Deliveries != 1 {
			r.Fatalf("%d deliveries, want 1", again[0].Deliveries)
		}
	}},
	{name: "too many deliveries make a dead letter, which comes back to its place", config: Config{MaxDeliveries: 2}, test: func(r *run) {
		r.send("a", "1", messaging.Normal)
		r.send("a", "2", messaging.Normal)
		r.wantTake("a", 1, time.Second, "1")
		pass(time.Second)
		outcomes, err := r.engine().Reject("a", receipts(r.wantTake("a", 1, time.Second, "1")), 0)
		r.wantOutcomes(outcomes, err, messaging.Nacked)
		synctest.Wait()
		r.wantPeek("a", "2")
		letters := r.rig.Undeliverable()
		if len(letters) != 1 || textOf(&letters[0].Message) != "1" || letters[0].Attempts != 2 {
			r.Fatalf("dead letters %+v", letters)
		}
		if refusal, err := r.engine().Requeue(&letters[0].Message); err != nil || refusal != "" {
			r.Fatalf("requeue: %s %v", refusal, err)
		}
		again := r.wantTake("a", 2, time.Second, "1", "2")
		if again[0].ID != letters[0].Message.ID || again[0].Deliveries != 1 {
			r.Fatalf("it came back as %s with %d deliveries", again[0].ID, again[0].Deliveries)
		}
	}},
	{name: "the last delivery counts over a restart", config: Config{MaxDeliveries: 1}, test: func(r *run) {
		r.broadcast("1", "", "a", "b")
		r.send("a", "2", messaging.Normal)
		r.wantTake("a", 1, time.Hour, "1")
		r.rig.Restart(true)
		r.wantTake("a", 10, time.Hour, "2")
		synctest.Wait()
		letters := r.rig.Undeliverable()
		if len(letters) != 1 || letters[0].Message.Receiver.User != "a" {
			r.Fatalf("dead letters %+v", letters)
		}
		r.wantPeek("b", "1")
	}},
	{name: "a waiter gets what comes, and leaves when there is nothing", test: func(r *run) {
		began := time.Now()
		h, err := r.engine().Take(r.Context(), "a", messaging.TakeOptions{Limit: 1, Wait: 20 * time.Second})
		if err != nil || len(h.Messages) != 0 || time.Since(began) != 20*time.Second {
			r.Fatalf("%d messages after %s (%v)", len(h.Messages), time.Since(began), err)
		}
		got := r.waiter(r.Context(), 0)
		pass(5 * time.Second)
		r.send("a", "1", messaging.Normal)
		r.wantTexts("waited for", <-got, "1")
	}},
	{name: "one message wakes one waiter, first come first served", test: func(r *run) {
		const n = 50
		var waiters [n]<-chan []messaging.Message
		for i := range waiters {
			waiters[i] = r.waiter(r.Context(), 0)
			synctest.Wait()
		}
		for i := range waiters {
			r.send("a", fmt.Sprint(i), messaging.Normal)
			synctest.Wait()
			for j := range waiters {
				if got := len(waiters[j]); got != 0 != (j == i) {
					r.Fatalf("after message %d waiter %d has %d answers", i, j, got)
				}
			}
			r.wantTexts("waited for", <-waiters[i], fmt.Sprint(i))
		}
	}},
	{name: "a waiter that has left loses nothing", test: func(r *run) {
		ctx, cancel := context.WithCancel(r.Context())
		gone := r.waiter(ctx, 0)
		synctest.Wait()
		next := r.waiter(r.Context(), 0)
		synctest.Wait()
		cancel()
		r.send("a", "1", messaging.Normal)
		synctest.Wait()
		if got := <-gone; len(got) > 0 {
			return // it was woken before it could leave, and has the message
		}
		r.wantTexts("waited for", <-next, "1")
	}},
	{name: "waiters are woken by what becomes due, runs out or is given back", test: func(r *run) {
		r.send("a", "due", messaging.Normal, `"delay_seconds":5`)
		r.wantTexts("due", <-r.waiter(r.Context(), 10*time.Second), "due")
		r.wantTexts("run out", <-r.waiter(r.Context(), time.Hour), "due")
		held := r.takeAgain("a")
		got := r.waiter(r.Context(), 0)
		synctest.Wait()
		if _, err := r.engine().Reject("a", held, 0); err != nil {
			r.Fatal(err)
		}
		r.wantTexts("given back", <-got, "due")
	}},
	{name: "waiting ends when the service stops", test: func(r *run) {
		got := r.waiter(r.Context(), 0)
		synctest.Wait()
		r.engine().StopWaiting()
		r.wantTexts("waited for", <-got)
	}},
	{name: "a delayed message enters in time, at its place, over a restart", config: Config{Retention: 30 * 24 * time.Hour}, test: func(r *run) {
		r.send("a", "later", messaging.Normal, `"delay_seconds":60`)
		r.send("a", "now", messaging.Normal)
		r.send("a", "at", messaging.High, fmt.Sprintf(`"deliver_at":%q`, time.Now().Add(90*time.Second).Format(time.RFC3339)))
		r.send("a", "past", messaging.Normal, `"deliver_at":"1999-01-01T00:00:00Z"`)
		r.wantPeek("a", "now", "past")
		r.wantSize("a", messaging.Counts{Normal: 2, Delayed: 2})
		pass(30 * time.Second)
		r.rig.Restart(true)
		pass(30*time.Second - time.Millisecond)
		r.wantPeek("a", "now", "past")
		pass(100 * time.Millisecond)
		r.wantPeek("a", "later", "now", "past")
		pass(30 * time.Second)
		r.wantPeek("a", "at", "later", "now", "past")
	}},
	{name: "a message that is due too late is refused", config: Config{Retention: 3 * 24 * time.Hour}, test: func(r *run) {
		for _, fields := range []string{
			`,"delay_seconds":172801`, `,"deliver_at":"2000-01-04T00:00:00Z"`,
			`,"delay_seconds":60,"ttl_seconds":60`, `,"delay_seconds":60,"expires_at":"2000-01-01T00:00:30Z"`,
		} {
			_, err := r.engine().Send(message(r, "a", "x", messaging.Normal, fields), messaging.Once{})
			if messaging.CodeOf(err) != messaging.CodeInvalidField {
				r.Errorf("%s: %v", fields, err)
			}
			drafts := []messaging.Draft{message(r, "a", "y", messaging.Normal, ""), message(r, "a", "x", messaging.Normal, fields)}
			if _, err = r.engine().SendAll(drafts, messaging.Once{}); err == nil {
				r.Errorf("%s: the batch was taken", fields)
			}
		}
		r.wantSize("a", messaging.Counts{})
		r.send("a", "just in time", messaging.Normal, `"delay_seconds":172800`)
	}},
	{name: "an expired message is not handed out", test: func(r *run) {
		r.send("a", "1", messaging.Normal, `"ttl_seconds":10`)
		r.send("a", "2", messaging.Normal, `"ttl_seconds":20`)
		r.send("a", "3", messaging.Normal, `"delay_seconds":5`, `"ttl_seconds":15`)
		pass(10 * time.Second)
		r.wantPeek("a", "2", "3")
		r.rig.Restart(true)
		pass(5 * time.Second)
		r.wantTake("a", 10, 0, "2")
		r.wantSize("a", messaging.Counts{})
	}},
	{name: "a message that expires under a lease may be acknowledged, and does not come back", test: func(r *run) {
		r.send("a", "1", messaging.Normal, `"ttl_seconds":10`)
		r.send("a", "2", messaging.Normal, `"ttl_seconds":10`)
		got := r.take("a", 2, time.Minute)
		pass(20 * time.Second)
		outcomes, err := r.engine().Acknowledge("a", receipts(got[:1]))
		r.wantOutcomes(outcomes, err, messaging.Acked)
		pass(time.Minute)
		r.wantSize("a", messaging.Counts{})
	}},
	{name: "a batch is stored in one piece and in its order", test: func(r *run) {
		drafts := make([]messaging.Draft, 100)
		for i := range drafts {
			drafts[i] = message(r, fmt.Sprint("u", i%3), fmt.Sprint(i), messaging.Normal, "")
		}
		before := r.send("x", "before", messaging.Normal)
		receipt, err := r.engine().SendAll(drafts, messaging.Once{})
		if err != nil || receipt.Count != 100 || receipt.Sequence != before.Sequence+1 {
			r.Fatalf("%+v %v", receipt, err)
		}
		got := r.take("u1", 100, 0)
		for i, m := range got {
			n := 1 + 3*i
			if textOf(&m) != fmt.Sprint(n) || m.ID != messaging.NthID(receipt.ID, n) || m.Position.Sequence != receipt.Sequence+uint64(n) {
				r.Fatalf("message %d of the queue is %s, %s at %d", i, textOf(&m), m.ID, m.Position.Sequence)
			}
		}
	}},
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
	{name: "clearing takes everything, leased and delayed too", test: func(r *run) {
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
	{name: "a full queue loses the oldest of the lowest priority, whatever its state", config: Config{QueueMax: 3}, test: func(r *run) {
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
	{name: "a broadcast is a message of each receiver's own", test: func(r *run) {
		receipt := r.broadcast("all", `,"delay_seconds":5`, "a", "b")
		r.wantSize("a", messaging.Counts{Delayed: 1})
		pass(5 * time.Second)
		a, b := r.wantTake("a", 1, time.Minute, "all"), r.wantTake("b", 1, 0, "all")
		if a[0].ID == b[0].ID || a[0].ID != messaging.CopyID(receipt.ID, "a") || a[0].Position.Sequence != receipt.Sequence {
			r.Errorf("ids %s and %s of %s", a[0].ID, b[0].ID, receipt.ID)
		}
	}},
	{
		name: "by weight no priority starves", config: Config{Weights: [messaging.Priorities]int{8, 4, 1}},
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
					r.Fatalf("take %d gave %s, want %s: within a priority the order stays", i, textOf(&got), want)
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

func broadcastOf(r *run, text, fields string, users ...string) messaging.Broadcast {
	r.Helper()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q%s},"user_ids":["%s"]}`, text, fields, strings.Join(users, `","`)))
	if err != nil {
		r.Fatalf("parse a broadcast: %v", err)
	}
	return b
}

func (r *run) broadcast(text, fields string, users ...string) messaging.Receipt {
	r.Helper()
	receipt, err := r.engine().Broadcast(broadcastOf(r, text, fields, users...), messaging.Once{})
	if err != nil {
		r.Fatalf("broadcast: %v", err)
	}
	return receipt
}

// waiter waits for one message of user a in a goroutine of its own, under a
// lease if one is given.
func (r *run) waiter(ctx context.Context, lease time.Duration) <-chan []messaging.Message {
	got := make(chan []messaging.Message, 1)
	e := r.engine()
	go func() {
		h, err := e.Take(ctx, "a", messaging.TakeOptions{Limit: 1, Lease: lease, Wait: time.Minute})
		if err != nil {
			r.Errorf("wait: %v", err)
		} else {
			h.Settle(true)
		}
		got <- h.Messages
	}()
	return got
}

// takeAgain lets the lease of the one message that there is run out, and takes
// it again.
func (r *run) takeAgain(user string) []string {
	r.Helper()
	pass(2 * time.Hour)
	return receipts(r.take(user, 1, time.Hour))
}
