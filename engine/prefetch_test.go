package engine_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// takeTexts takes up to limit messages of "u", without a lease.
func (s *serving) takeTexts(limit int) []string {
	s.tb.Helper()
	h, err := s.engine.Take(s.tb.Context(), "u", messaging.TakeOptions{Limit: limit})
	if err != nil {
		s.tb.Fatal(err)
	}
	h.Finish(true)
	return texts(s.tb, h.Messages)
}

// When more leases end than are remembered individually, the queue is read again from the
// first of them, so the order is kept.
func TestManyRequeuedMessagesKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{})}
		s.start()
		defer s.Close()
		const n = 5000
		for i := range n {
			s.send("u", fmt.Sprint(i), messaging.Normal)
		}
		var receipts []string
		for range n / 1000 {
			h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1000, Lease: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			h.Finish(true)
			for _, m := range h.Messages {
				receipts = append(receipts, m.Receipt)
			}
		}
		back := func(receipts []string) {
			if _, err := s.engine.Nack("u", receipts, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for at := 0; at < n-100; at += 700 {
			back(receipts[at:min(at+700, n-100)])
		}
		back(receipts[n-100:])
		for i := range n {
			if got := s.takeTexts(1); len(got) != 1 || got[0] != fmt.Sprint(i) {
				t.Fatalf("message %d: %v is delivered", i, got)
			}
			synctest.Wait()
		}
	})
}

// A queue with more entries than are prefetched delivers all of them, once and in order,
// whatever the limit of a take, and while others arrive.
func TestQueueLargerThanItsPrefetchIsDeliveredInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{})}
		s.start()
		defer s.Close()
		sent, taken := 0, 0
		for round := range 60 {
			for range 10 + round%7 {
				s.send("u", fmt.Sprint(sent), messaging.Normal)
				sent++
			}
			if round == 30 {
				s.halt()
				s.reopen()
				s.start()
			}
			for _, got := range s.takeTexts(1 + (round*5)%17) {
				if got != fmt.Sprint(taken) {
					t.Fatalf("round %d: message %s is delivered, want %d", round, got, taken)
				}
				taken++
			}
			synctest.Wait()
			if wrong := s.engine.Unreachable(); wrong != "" {
				t.Fatalf("round %d: %s", round, wrong)
			}
		}
		for taken < sent {
			got := s.takeTexts(100)
			if len(got) == 0 || got[0] != fmt.Sprint(taken) {
				t.Fatalf("%v is delivered, want %d", got, taken)
			}
			taken += len(got)
			synctest.Wait()
		}
	})
}
