package enginetest

import (
	"context"
	"fmt"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// waitCases are about readers that wait for a message.
var waitCases = []testCase{
	{name: "a waiter gets a new message, or returns at its timeout", test: func(r *run) {
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
					r.Fatalf("after message %d waiter %d has %d responses", i, j, got)
				}
			}
			r.wantTexts("waited for", <-waiters[i], fmt.Sprint(i))
		}
	}},
	{name: "a waiter that has left loses no message", test: func(r *run) {
		ctx, cancel := context.WithCancel(r.Context())
		gone := r.waiter(ctx, 0)
		synctest.Wait()
		next := r.waiter(r.Context(), 0)
		synctest.Wait()
		cancel()
		r.send("a", "1", messaging.Normal)
		synctest.Wait()
		if got := <-gone; len(got) > 0 {
			return // it was woken before it left, and has the message
		}
		r.wantTexts("waited for", <-next, "1")
	}},
	{name: "waiters are woken by a due message, an expired lease and a nack", test: func(r *run) {
		r.send("a", "due", messaging.Normal, `"delay_seconds":5`)
		r.wantTexts("due", <-r.waiter(r.Context(), 10*time.Second), "due")
		r.wantTexts("expired lease", <-r.waiter(r.Context(), time.Hour), "due")
		held := r.takeAgain("a")
		got := r.waiter(r.Context(), 0)
		synctest.Wait()
		if _, err := r.engine().Nack("a", held, 0); err != nil {
			r.Fatal(err)
		}
		r.wantTexts("nacked", <-got, "due")
	}},
	{name: "waiting ends when the service stops", test: func(r *run) {
		got := r.waiter(r.Context(), 0)
		synctest.Wait()
		r.engine().StopWaiting()
		r.wantTexts("waited for", <-got)
	}},
}

// waiter starts a goroutine that waits for one message of user a, under a lease unless
// lease is 0.
func (r *run) waiter(ctx context.Context, lease time.Duration) <-chan []messaging.Message {
	got := make(chan []messaging.Message, 1)
	e := r.engine()
	go func() {
		h, err := e.Take(ctx, "a", messaging.TakeOptions{Limit: 1, Lease: lease, Wait: time.Minute})
		if err != nil {
			r.Errorf("wait: %v", err)
		} else {
			h.Finish(true)
		}
		got <- h.Messages
	}()
	return got
}

// takeAgain waits until the lease of the user's only message has expired, and takes it
// again.
func (r *run) takeAgain(user string) []string {
	r.Helper()
	pass(2 * time.Hour)
	return receipts(r.take(user, 1, time.Hour))
}
