package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// While the disk is so full that dead letters of the drain are refused, exhausted messages
// wait too, in their queues. The remaining space is reserved for operations that free
// space.
func TestAFullDiskRefusesDeadLettersOfExhaustedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := uint64(1000)
		s := &serving{rig: newRig(t, engine.Config{MaxDeliveries: 1, MinFree: 100, Free: func() (uint64, error) { return free, nil }})}
		s.start()
		defer s.Close()
		s.send("u", "x", messaging.Normal)
		free = 10
		time.Sleep(time.Second)
		err := s.engine.DeadLetters().AddDeadLetters([]messaging.DeadLetter{{Kind: messaging.Refused, Reason: "r", FailedAt: time.Now()}}, messaging.Progress{})
		if messaging.CodeOf(err) != messaging.CodeDiskFull {
			t.Fatalf("a dead letter of the drain returned %v", err)
		}
		s.die(t)
		time.Sleep(time.Second)
		if n := len(s.Undeliverable()); n != 0 {
			t.Errorf("%d dead letters were written on the full disk", n)
		}
		free = 1000
		time.Sleep(2 * time.Second)
		if n := len(s.Undeliverable()); n != 1 {
			t.Errorf("%d dead letters were written when there was space again, want 1", n)
		}
	})
}
