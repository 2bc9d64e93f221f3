package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// die uses up the deliveries of a message.
func (s *serving) die(t *testing.T) {
	t.Helper()
	h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
	if err != nil || len(h.Messages) != 1 {
		t.Fatalf("%d messages are delivered (%v)", len(h.Messages), err)
	}
	h.Finish(true)
	if outcomes, err := s.engine.Nack("u", []string{h.Messages[0].Receipt}, 0); err != nil || outcomes[0] != messaging.Nacked {
		t.Fatalf("nack: %v %v", outcomes, err)
	}
	synctest.Wait()
}

// serve runs a test with an engine whose services run.
func serve(t *testing.T, config engine.Config, test func(t *testing.T, s *serving)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, config)}
		s.start()
		defer s.Close()
		test(t, s)
	})
}

func TestRedrivenMessageThatFailsAgainIsADeadLetterAgain(t *testing.T) {
	serve(t, engine.Config{MaxDeliveries: 1}, func(t *testing.T, s *serving) {
		t.Helper()
		s.send("u", "1", messaging.Normal)
		for range 3 {
			s.die(t)
			letters := s.Undeliverable()
			if len(letters) != 1 {
				t.Fatalf("%d dead letters are there, want 1", len(letters))
			}
			if results := redrive(t, s.engine, &letters[0]); results[0] != (messaging.RequeueResult{}) {
				t.Fatalf("redrive: %+v", results)
			}
			if letters := s.Undeliverable(); len(letters) != 0 {
				t.Fatalf("%d dead letters are left", len(letters))
			}
			s.wantQueue("1")
		}
	})
}

// A redrive into a full queue would evict a live message, or the redriven one itself.
func TestRedriveIntoAFullQueueIsRefusedAndKeepsTheLetter(t *testing.T) {
	serve(t, engine.Config{MaxDeliveries: 1, QueueMax: 2}, func(t *testing.T, s *serving) {
		t.Helper()
		s.send("u", "exhausted", messaging.Normal)
		s.die(t)
		s.send("u", "1", messaging.Normal)
		s.send("u", "2", messaging.Normal)
		letters := s.Undeliverable()
		if results := redrive(t, s.engine, &letters[0]); results[0].Refusal == "" {
			t.Errorf("it is enqueued: %+v", results)
		}
		if n := len(s.Undeliverable()); n != 1 || s.engine.Stats().Evicted != 0 {
			t.Errorf("%d dead letters are left and %d messages were evicted, want 1 and 0", n, s.engine.Stats().Evicted)
		}
		s.wantQueue("1", "2")
		h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		h.Finish(true)
		synctest.Wait()
		if results := redrive(t, s.engine, &letters[0]); results[0] != (messaging.RequeueResult{}) {
			t.Errorf("it is refused although the queue is not full: %+v", results)
		}
		s.wantQueue("exhausted", "2")
	})
}

// Of two redrives that have read the same dead letter, each with the same recipient twice,
// exactly one requeues the message.
func TestOneOfSeveralRedrivesWins(t *testing.T) {
	serve(t, engine.Config{MaxDeliveries: 1}, func(t *testing.T, s *serving) {
		t.Helper()
		s.send("u", "1", messaging.Normal)
		s.die(t)
		letters := s.Undeliverable()
		recipients, err := s.engine.DeadLetters().DeadRecipients(&letters[0], "", 10)
		if err != nil {
			t.Fatal(err)
		}
		var won, gone int
		for range 2 {
			results, err := s.engine.DeadLetters().RequeueDeadLetters(append(recipients, recipients...), messaging.Progress{})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.Gone {
					gone++
				} else if r.Refusal == "" {
					won++
				}
			}
			if h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 10}); err == nil { // a reader takes it in between
				h.Finish(true)
			}
		}
		if won != 1 || gone != 3 {
			t.Errorf("%d of four redrives requeued it and %d found it gone, want 1 and 3", won, gone)
		}
	})
}

func TestRedriveAfterADeleteFindsNothing(t *testing.T) {
	serve(t, engine.Config{MaxDeliveries: 1}, func(t *testing.T, s *serving) {
		t.Helper()
		s.send("u", "1", messaging.Normal)
		s.die(t)
		letters := s.Undeliverable()
		recipients, err := s.engine.DeadLetters().DeadRecipients(&letters[0], "", 10)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := s.engine.DeadLetters().DropDeadLetter(letters[0].ID); !ok || err != nil {
			t.Fatal(ok, err)
		}
		results, err := s.engine.DeadLetters().RequeueDeadLetters(recipients, messaging.Progress{})
		if err != nil || !results[0].Gone {
			t.Errorf("%+v (%v)", results, err)
		}
		s.wantQueue()
	})
}
