package engine_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// One message that was nacked with a delay of an hour used to stop retention for everyone.
func TestADelayedMessageDoesNotStopRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{Retention: time.Hour})}
		s.start()
		defer s.Close()
		s.sendWith("later", "")
		if _, err := s.engine.Nack("u", []string{take(t, s, time.Minute)}, 5*time.Hour+30*time.Second); err != nil { // between two runs of retention
			t.Fatal(err)
		}
		const others = 1500 // more than a page
		for i := range others {
			s.send(fmt.Sprint("other", i%7), "old", messaging.Normal)
		}
		time.Sleep(2 * time.Hour)
		s.wantLeft(1)
		if queued, first := s.log.Queued(), s.log.FirstSequence(); queued != 1 || first != 1 {
			t.Errorf("%d entries are left and the first sequence is %d, want 1 and 1", queued, first)
		}
		if got := s.engine.Stats().TrimmedByAge; got != others {
			t.Errorf("%d messages are counted, want %d", got, others)
		}
		s.Restart(true)
		s.sendWith("young", "")
		time.Sleep(30 * time.Minute)
		s.wantLeft(1, others+2)
		time.Sleep(2*time.Hour + 29*time.Minute)
		s.wantQueue()
		for len(s.take("u", 1)) == 0 {
			time.Sleep(time.Second) // due within a minute, at the age of the retention
		}
		time.Sleep(2 * time.Minute)
		if first := s.log.FirstSequence(); first != others+3 {
			t.Errorf("the first sequence is %d, want %d: it moves past the tombstones", first, others+3)
		}
	})
}

// A broadcast that is delayed for one receiver keeps its record, and no entry of another
// receiver.
func TestABroadcastStaysForAReceiverWithADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{Retention: time.Hour})}
		s.start()
		defer s.Close()
		s.broadcast("all", "u", "v", "w")
		if _, err := s.engine.Nack("u", []string{take(t, s, time.Minute)}, 3*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		s.wantLeft(1)
		if queued := s.log.Queued(); queued != 1 {
			t.Errorf("%d entries are left, want 1", queued)
		}
		time.Sleep(time.Hour + 2*time.Minute)
		s.wantLeft()
		if queued, first := s.log.Queued(), s.log.FirstSequence(); queued != 0 || first != 2 {
			t.Errorf("%d entries are left and the first sequence is %d, want 0 and 2", queued, first)
		}
	})
}

// Replays delay retention by age but not early trim. The drain delays both.
func TestReplaysStopRetentionButNotEarlyTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held, settled := uint64(3), uint64(6)
		s := &serving{rig: newRig(t, engine.Config{
			Retention:     time.Hour,
			DrainPosition: func() messaging.Position { return messaging.Position{Sequence: settled} },
			Held:          func(end uint64) uint64 { return min(end, held) },
		})}
		for range 8 {
			s.sendWith("x", "")
		}
		s.take("u", 8)
		s.reopen()
		time.Sleep(2 * time.Hour)
		s.wantTrimmed(2)
		s.wantLeft(3, 4, 5, 6, 7, 8)
		s.trimEarly(1 << 20)
		s.wantLeft(6, 7, 8)
		held = 7
		s.wantTrimmed(0)
		settled = 9
		s.wantTrimmed(1)
		s.wantLeft(7, 8)
	})
}
