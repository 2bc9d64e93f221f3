package faults_test

import (
	"slices"
	"testing"
	"time"
)

// TestControl passes on both programs: it makes the same calls as the fault tests,
// without a fault. So a fault test that fails on the base does not fail because the
// base or the test code does not work at all.
func TestControl(t *testing.T) {
	backend := startDjango(t, refuses("not yet"))
	s := startService(t, backend.env(), "QUEUE_MAX_DELIVERIES=1")
	s.send("7", "refused", nil)
	s.awaitLetters(1, 10*time.Second)
	backend.setScript(stores)
	j := s.ended(s.redrive(all()).ID, 10*time.Second)
	equal(t, "refused letters that are redriven", j.Done, 1)
	s.drained(backend, "refused")

	leased := s.get("7", "lease=60")
	equal(t, "leased messages", s.size("7").Leased, 1)
	if got := s.ackOrNack("nack", leased.receipts(), nil); !slices.Equal(got, []string{"nacked"}) {
		t.Errorf("the nack returned %q", got)
	}
	s.awaitLetters(1, 10*time.Second)
	j = s.ended(s.redrive(all()).ID, 10*time.Second)
	equal(t, "undeliverable letters that are redriven", j.Done, 1)
	equal(t, "dead letters", s.letters(nil).Total, 0)
	if got := s.get("7", "peek=true").texts(); !slices.Equal(got, []string{"refused"}) {
		t.Errorf("the queue has %q", got)
	}

	s.broadcast("to two", []string{"8", "9"})
	s.batch("8", 3)
	eventually(t, 10*time.Second, "Django has all messages", func() bool { return s.lag() == 0 })
	j = s.ended(s.replay(fields{"from_sequence": 1}).ID, 10*time.Second)
	equal(t, "sequences that are replayed", j.Done, 5)
	s.stop()
	s.verify()
	s.start()
	equal(t, "messages of a queue after a restart", s.size("8").Normal, 4)
	s.clear("8", 4)
	s.Kill()
	s.start()
	equal(t, "messages of a queue that was cleared, after a kill", s.size("8").Total, 0)
}
