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
