package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// A message that was redriven is delivered too often again before its old dead
// letter has gone: that must not take the new one with it, or the message is
// nowhere.
func TestMessageThatDiesAgainWhileItIsRedrivenStaysADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{MaxDeliveries: 1})}
		s.start()
		defer s.Close()
		die := func() {
			h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Hour})
			if err != nil || len(h.Messages) != 1 {
				t.Fatalf("%d messages are handed out (%v)", len(h.Messages), err)
			}
			h.Settle(true)
			if outcomes, err := s.engine.Reject("u", []string{h.Messages[0].Receipt}, 0); err != nil || outcomes[0] != messaging.Nacked {
				t.Fatalf("reject: %v %v", outcomes, err)
			}
			synctest.Wait()
		}
		s.send("u", "1", messaging.Normal)
		die()
		letters := s.Undeliverable()
		refusal, err := s.engine.Requeue(&letters[0].Message, func() error {
			die()
			return s.store.Control().SettleDead([]messaging.DeadCopy{{Letter: letters[0].ID, Message: letters[0].Message}})
		})
		if refusal != "" || err != nil {
			t.Fatalf("requeue: %s %v", refusal, err)
		}
		synctest.Wait()
		if letters := s.Undeliverable(); len(letters) != 1 {
			t.Errorf("%d dead letters are there, want 1", len(letters))
		}
		s.wantQueue()
	})
}
