package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// wantLeasedOut expects a take under a lease to be refused.
func (s *serving) wantLeasedOut() {
	s.tb.Helper()
	_, err := s.engine.Take(s.tb.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
	var e *messaging.Error
	if messaging.CodeOf(err) != messaging.CodeTooManyRequests {
		s.tb.Fatalf("a take past the bound of leases: %v", err)
	}
	if e, _ = err.(*messaging.Error); e == nil || e.RetryAfter == 0 { //nolint:errorlint // as the response has it
		s.tb.Errorf("%v does not say when to try again", err)
	}
}

// The leases of one queue are bounded, independently of other queues. Whatever ends a
// lease frees one.
func TestLeasesOfAQueueAreBounded(t *testing.T) {
	onServing(t, engine.Config{MaxLeased: 3}, func(s *serving) {
		for range 10 {
			s.sendWith("x", "")
		}
		s.send("v", "other", messaging.Normal)
		receipts := s.lease(2, time.Hour)
		receipts = append(receipts, s.lease(10, time.Minute)...) // as many as the limit allows
		if len(receipts) != 3 {
			t.Fatalf("%d messages are under a lease, want 3", len(receipts))
		}
		s.wantLeasedOut()
		h, err := s.engine.Take(t.Context(), "v", messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		if err != nil || len(h.Messages) != 1 {
			t.Fatalf("another queue: %d messages (%v)", len(h.Messages), err)
		}
		h.Finish(true)
		if got := s.take("u", 1); len(got) != 1 { // without a lease
			t.Errorf("took %v", got)
		}
		for name, end := range map[string]func(receipt string) error{
			"ack":   func(receipt string) error { _, err := s.engine.Acknowledge("u", []string{receipt}); return err },
			"nack":  func(receipt string) error { _, err := s.engine.Nack("u", []string{receipt}, 0); return err },
			"later": func(receipt string) error { _, err := s.engine.Nack("u", []string{receipt}, time.Hour); return err },
		} {
			if err := end(receipts[0]); err != nil {
				t.Fatal(err)
			}
			again := s.lease(10, time.Hour)
			if len(again) != 1 {
				t.Fatalf("after %s %d leases were granted, want 1", name, len(again))
			}
			receipts = append(receipts[1:], again...)
			s.wantLeasedOut()
		}
		s.clear(8)
		for range 3 {
			s.sendWith("y", "")
		}
		if again := s.lease(10, time.Second); len(again) != 3 {
			t.Errorf("after a clear %d leases were granted, want 3", len(again))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if again := s.lease(10, time.Second); len(again) != 3 {
			t.Errorf("after leases ended %d were granted, want 3", len(again))
		}
	})
}

// A delivery that did not arrive ends its leases.
func TestLeasesOfUndeliveredMessagesAreNotCounted(t *testing.T) {
	onServing(t, engine.Config{MaxLeased: 2}, func(s *serving) {
		s.sendWith("1", "")
		s.sendWith("2", "")
		for range 3 {
			h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 2, Lease: time.Hour})
			if err != nil || len(h.Messages) != 2 {
				t.Fatalf("%d messages (%v)", len(h.Messages), err)
			}
			h.Finish(false)
			synctest.Wait()
		}
	})
}

// Messages are delivered although another is always nacked at once. Without a pause that
// one would be delivered again and again.
func TestAMessageThatIsAlwaysNackedStarvesNoOther(t *testing.T) {
	onServing(t, engine.Config{RetryBackoff: time.Second}, func(s *serving) {
		s.sendWith("poison", `,"priority":"high"`)
		for range 20 {
			s.sendWith("good", "")
		}
		delivered := 0
		for takes := 0; delivered < 20; takes++ {
			if takes > 30 {
				t.Fatalf("%d messages were delivered in %d takes", delivered, takes)
			}
			h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Minute})
			if err != nil || len(h.Messages) != 1 {
				t.Fatalf("%d messages (%v)", len(h.Messages), err)
			}
			h.Finish(true)
			receipts := []string{h.Messages[0].Receipt}
			if texts(t, h.Messages)[0] == "poison" {
				_, err = s.engine.Nack("u", receipts, 0)
			} else {
				delivered++
				_, err = s.engine.Acknowledge("u", receipts)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The pause begins after the third delivery and doubles, up to five minutes, after a nack
// and after an expired lease. It survives a restart.
func TestPausesGrow(t *testing.T) {
	pauses := []time.Duration{
		0, 0, 100 * time.Second, 200 * time.Second, 5 * time.Minute, 5 * time.Minute,
	}
	for name, nack := range map[string]func(s *serving, receipts []string){
		"given back": func(s *serving, receipts []string) {
			if outcomes, err := s.engine.Nack("u", receipts, 0); err != nil || outcomes[0] != messaging.Nacked {
				s.tb.Errorf("%v %v", outcomes, err)
			}
		},
		"its lease ends": func(*serving, []string) { time.Sleep(time.Second) },
		"given back, and the service is killed": func(s *serving, receipts []string) {
			if _, err := s.engine.Nack("u", receipts, 0); err != nil {
				s.tb.Error(err)
			}
			s.Restart(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onServing(t, engine.Config{RetryBackoff: 100 * time.Second}, func(s *serving) {
				s.sendWith("1", "")
				for n, pause := range pauses {
					receipts := s.lease(1, time.Second)
					if len(receipts) != 1 {
						t.Fatalf("delivery %d: it is not there", n+1)
					}
					nack(s, receipts)
					if pause > 0 {
						s.wantQueue()
						time.Sleep(pause - time.Millisecond)
						s.wantQueue()
						if size, err := s.engine.Size("u"); err != nil || size != (messaging.Counts{Delayed: 1}) {
							t.Errorf("size %+v (%v)", size, err)
						}
						time.Sleep(time.Millisecond)
					}
					s.wantQueue("1")
				}
			})
		})
	}
}

// An exhausted message becomes a dead letter, and an expired one is removed, without a
// pause before.
func TestPauseComesAfterTheLastDelivery(t *testing.T) {
	onServing(t, engine.Config{RetryBackoff: time.Hour, MaxDeliveries: 3}, func(s *serving) {
		s.sendWith("1", "")
		for range 3 {
			if _, err := s.engine.Nack("u", s.lease(1, time.Hour), 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if letters := s.Undeliverable(); len(letters) != 1 {
			t.Errorf("%d dead letters, want 1", len(letters))
		}
	})
	onServing(t, engine.Config{RetryBackoff: time.Hour}, func(s *serving) {
		s.sendWith("1", `,"ttl_seconds":10`)
		for range 2 {
			if _, err := s.engine.Nack("u", s.lease(1, time.Hour), 0); err != nil {
				t.Fatal(err)
			}
		}
		s.lease(1, 20*time.Second)
		time.Sleep(20 * time.Second)
		s.wantTimers(0)
		if size, err := s.engine.Size("u"); err != nil || size.Total() != 0 {
			t.Errorf("size %+v (%v)", size, err)
		}
	})
}

// Many leases of a queue that end at one time come back after one pause.
func TestManyLeasesThatEndAtOneTimeComeBackTogether(t *testing.T) {
	onServing(t, engine.Config{RetryBackoff: time.Second}, func(s *serving) {
		const n = 1500
		for range n {
			s.sendWith("x", "")
		}
		for range 3 {
			if got := len(s.lease(n, time.Minute)); got != n {
				t.Fatalf("%d are under a lease, want %d", got, n)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if size, err := s.engine.Size("u"); err != nil || size != (messaging.Counts{Delayed: n}) {
			t.Errorf("size %+v (%v)", size, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if size, err := s.engine.Size("u"); err != nil || size != (messaging.Counts{Normal: n}) {
			t.Errorf("size %+v (%v)", size, err)
		}
	})
}
