package engine_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
)

// timers counts the timers on disk.
func (r *rig) timers() (n int) {
	r.tb.Helper()
	for _, what := range []storage.Event{storage.Due, storage.Expiry} {
		err := r.store.Timers(what, 0, math.MaxInt64-1, func(storage.Timer, messaging.Priority) bool { n++; return true })
		if err != nil {
			r.tb.Fatal(err)
		}
	}
	return n
}

// lease takes messages of user u under a lease and returns their receipts.
func (s *serving) lease(limit int, term time.Duration) (receipts []string) {
	s.tb.Helper()
	h, err := s.engine.Take(s.tb.Context(), "u", messaging.TakeOptions{Limit: limit, Lease: term})
	if err != nil {
		s.tb.Fatalf("take under a lease: %v", err)
	}
	h.Finish(true)
	for i := range h.Messages {
		receipts = append(receipts, h.Messages[i].Receipt)
	}
	return receipts
}

func (s *serving) wantTimers(want int) {
	s.tb.Helper()
	synctest.Wait()
	if got := s.timers(); got != want {
		s.tb.Errorf("%d timers are on disk, want %d", got, want)
	}
}

// onServing runs a test in a bubble with all services of an engine.
func onServing(t *testing.T, c engine.Config, test func(s *serving)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, c)}
		s.start()
		defer s.Close()
		test(s)
	})
}

// Whatever ends an entry that expired under a lease also removes its timer.
func TestTimerOfAMessageThatExpiresUnderALeaseEndsWithIt(t *testing.T) {
	for name, end := range map[string]func(s *serving, receipts []string){
		"acknowledged": func(s *serving, receipts []string) {
			if outcomes, err := s.engine.Acknowledge("u", receipts); err != nil || outcomes[0] != messaging.Acked {
				s.tb.Errorf("%v %v", outcomes, err)
			}
		},
		"given back": func(s *serving, receipts []string) {
			if _, err := s.engine.Nack("u", receipts, 0); err != nil {
				s.tb.Error(err)
			}
		},
		"given back with a delay": func(s *serving, receipts []string) {
			if _, err := s.engine.Nack("u", receipts, time.Hour); err != nil {
				s.tb.Error(err)
			}
		},
		"its lease ends": func(*serving, []string) { time.Sleep(time.Minute) },
		"cleared": func(s *serving, _ []string) {
			if n, err := s.engine.Clear("u"); n != 1 || err != nil {
				s.tb.Errorf("%d were cleared (%v)", n, err)
			}
		},
		"the service is killed": func(s *serving, _ []string) { s.Restart(true) },
	} {
		t.Run(name, func(t *testing.T) {
			onServing(t, engine.Config{}, func(s *serving) {
				s.sendWith("1", `,"ttl_seconds":10`)
				receipts := s.lease(1, time.Minute)
				time.Sleep(20 * time.Second)
				s.wantTimers(1) // it stays
				end(s, receipts)
				s.wantTimers(0)
				s.wantQueue()
				if size, err := s.engine.Size("u"); err != nil || size.Total() != 0 {
					t.Errorf("%+v is left (%v)", size, err)
				}
			})
		})
	}
}

// A timer of a leased entry does not delay later timers, and neither does a page of them.
func TestMessagesExpireBesideManyLeasedOnes(t *testing.T) {
	onServing(t, engine.Config{}, func(s *serving) {
		const leased = 1500 // more than a page
		for range leased {
			s.sendWith("leased", `,"ttl_seconds":10`)
		}
		for range leased / 100 {
			s.lease(100, time.Hour)
		}
		s.sendWith("free", `,"ttl_seconds":15`)
		time.Sleep(10 * time.Second)
		s.wantQueue("free")
		time.Sleep(5 * time.Second)
		s.wantTimers(leased)
		if n, err := s.engine.Clear("u"); n != leased || err != nil {
			t.Errorf("%d were cleared (%v), want %d: the free one has expired", n, err, leased)
		}
		s.wantTimers(0)
	})
}

// A message that expired under a lease is removed before the service is ready again: it
// does not evict live messages from a full queue.
func TestMessageExpiredUnderALeaseDoesNotCountAfterARestart(t *testing.T) {
	onServing(t, engine.Config{QueueMax: 4}, func(s *serving) {
		s.sendWith("live", "")
		s.sendWith("old", `,"ttl_seconds":10,"priority":"high"`)
		s.sendWith("old", `,"ttl_seconds":10,"priority":"high"`)
		s.lease(2, time.Hour)
		time.Sleep(20 * time.Second)
		s.halt()
		s.reopen()
		for _, text := range []string{"1", "2", "3"} {
			s.sendWith(text, "") // no service runs yet
		}
		s.start()
		s.wantQueue("live", "1", "2", "3")
		if evicted := s.engine.Stats().Evicted; evicted != 0 {
			t.Errorf("%d messages were evicted", evicted)
		}
	})
}
