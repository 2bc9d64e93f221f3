package faults_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestRedriveIntoAFullQueueFailsAndKeepsTheLetter: a redrive never evicts. In earlier
// revisions a message that was redriven into a full queue was evicted at once, and both
// letter and message were lost.
func TestRedriveIntoAFullQueueFailsAndKeepsTheLetter(t *testing.T) {
	fault(t, "1")
	s := startService(t, "MESSAGE_QUEUE_MAX_SIZE=5", "QUEUE_MAX_DELIVERIES=1")
	s.send("7", "dead 1", nil)
	s.send("7", "dead 2", nil)
	s.makeUndeliverable(2)
	for _, text := range []string{"1", "2", "3", "4", "5"} {
		s.send("7", text, nil)
	}
	j := s.ended(s.redrive(all()).ID, 10*time.Second)
	equal(t, "messages that the redrive reports as failed with a full queue", j.Failed, 2)
	equal(t, "dead letters after a redrive into a full queue", s.letters(nil).Total, 2)
	equal(t, "messages evicted by the redrive", s.stats().Evicted, 0)
	if got := s.get("7", "peek=true").texts(); !slices.Equal(got, []string{"1", "2", "3", "4", "5"}) {
		t.Errorf("the full queue has %q after the redrive", got)
	}
	if t.Failed() {
		return
	}
	s.get("7", "max_count=4") // now the queue has space
	j = s.ended(s.redrive(all()).ID, 10*time.Second)
	equal(t, "messages that fail once there is space", j.Failed, 0)
	equal(t, "dead letters once there is space", s.letters(nil).Total, 0)
	if got := s.get("7", "peek=true").texts(); !slices.Equal(got, []string{"dead 1", "dead 2", "5"}) {
		t.Errorf("the queue has %q after the second redrive", got)
	}
	s.stop()
	s.verify()
}

// TestTwoRedrivesAtOnceDeliverEachMessageOnce: of two redrives of a letter exactly one
// gets it. In earlier revisions both requeued the message, and a reader acknowledged it
// twice.
func TestTwoRedrivesAtOnceDeliverEachMessageOnce(t *testing.T) {
	fault(t, "2")
	t.Parallel() // the test mostly waits
	const n = 1000
	s := startService(t, "QUEUE_MAX_DELIVERIES=1")
	s.batch("7", n)
	s.makeUndeliverable(n)

	acked := make(map[string]int)
	acknowledge := func() (some bool) {
		leased := s.get("7", "lease=60&max_count=100")
		if len(leased.Messages) == 0 {
			return false
		}
		for i, result := range s.ackOrNack("ack", leased.receipts(), nil) {
			if result == "acked" {
				acked[leased.Messages[i].ID]++
			}
		}
		return true
	}
	jobs := make(chan job, 2)
	var starting sync.WaitGroup
	for range 2 {
		starting.Go(func() { jobs <- s.redrive(all()) })
	}
	starting.Wait()
	close(jobs)
	for j := range jobs {
		for end := time.Now().Add(time.Minute); s.job(j.ID).State == "running"; acknowledge() {
			if time.Now().After(end) {
				t.Fatalf("not within a minute: the redrive ends: %+v", s.job(j.ID))
			}
		}
	}
	for acknowledge() {
	}
	twice := 0
	for _, times := range acked {
		if times > 1 {
			twice++
		}
	}
	equal(t, "messages acknowledged more than once", twice, 0)
	equal(t, "messages acknowledged", len(acked), n)
	equal(t, "dead letters after both redrives", s.letters(nil).Total, 0)
	s.stop()
	s.verify()
}

// TestRedriveDuringADeleteHasOneWinner: a letter is deleted or its message is requeued.
// In earlier revisions a delete could succeed and the message was in the queue all the
// same.
func TestRedriveDuringADeleteHasOneWinner(t *testing.T) {
	fault(t, "2")
	const n = 500
	s := startService(t, "QUEUE_MAX_DELIVERIES=1")
	s.batch("7", n)
	s.makeUndeliverable(n)
	listed := s.letters(url.Values{"limit": {strconv.Itoa(n)}}).Letters
	equal(t, "listed letters", len(listed), n)
	var mu sync.Mutex
	deleted := make(map[string]bool)
	var deletes sync.WaitGroup
	for part := range slices.Chunk(listed, n/8) {
		deletes.Go(func() {
			for _, l := range slices.Backward(part) { // in reverse order, so that the two meet in each part
				if status, _, err := s.try(http.MethodDelete, "/api/dead-letters/"+l.ID, nil); err == nil && status == http.StatusOK {
					mu.Lock()
					deleted[l.Message.ID] = true
					mu.Unlock()
				}
			}
		})
	}
	j := s.redrive(all())
	deletes.Wait()
	s.ended(j.ID, time.Minute)
	queued := s.get("7", "peek=true&max_count=1000").Messages
	both := 0
	for i := range queued {
		if deleted[queued[i].ID] {
			both++
		}
	}
	equal(t, "messages in the queue whose letters were deleted successfully", both, 0)
	equal(t, "messages that are in the queue, or deleted, or still letters", len(queued)-both+len(deleted)+s.letters(nil).Total, n)
}

// TestSameLetterTwiceInARedriveCountsOnce: a request names one letter twice.
func TestSameLetterTwiceInARedriveCountsOnce(t *testing.T) {
	fault(t, "2")
	s := startService(t, "QUEUE_MAX_DELIVERIES=1")
	s.send("7", "dead", nil)
	s.makeUndeliverable(1)
	id := s.letters(nil).Letters[0].ID
	j := s.ended(s.redrive(fields{"ids": []string{id, id}}).ID, 10*time.Second)
	equal(t, "letters that a redrive of one letter, named twice, counts", j.Total, 1)
	equal(t, "letters that the job reports as done", j.Done, 1)
	equal(t, "messages that failed", j.Failed, 0)
	equal(t, "messages in the queue", s.size("7").Total, 1)
}

// TestBroadcastRefusedAgainHasItsNewReason: Django refuses a broadcast, which is
// redriven and refused again with another reason. In earlier revisions the letter kept
// the old reason and time, counted an attempt per receiver, was not found by its
// reason, and left a corrupt store when it was deleted.
func TestBroadcastRefusedAgainHasItsNewReason(t *testing.T) {
	fault(t, "3")
	backend := startDjango(t, refuses("the first reason"))
	s := startService(t, backend.env())
	s.broadcast("for three", []string{"7", "8", "9"})
	first := s.awaitRecipients("the first reason", 3)
	backend.setScript(refuses("the second reason"))
	before := time.Now().UnixMilli() // times have millisecond precision
	eventually(t, time.Second, "the clock advances", func() bool { return time.Now().UnixMilli() > before })
	j := s.ended(s.redrive(all()).ID, 20*time.Second)
	equal(t, "messages that stay dead letters", j.Failed, 3)

	listed := s.letters(nil).Letters
	if len(listed) != 1 {
		t.Fatalf("the broadcast, refused again, is %d dead letters: %+v", len(listed), listed)
	}
	again := listed[0]
	equal(t, "the reason of a broadcast that was refused again", again.Reason, "the second reason")
	equal(t, "its attempts", again.Attempts, first.Attempts+1)
	equal(t, "its receivers", again.Recipients, 3)
	if !again.FailedAt.After(first.FailedAt) {
		t.Errorf("the broadcast failed again, and failed_at is still %s", again.FailedAt)
	}
	equal(t, "letters found by the new reason", len(s.letters(url.Values{"reason": {"the second reason"}}).Letters), 1)
	equal(t, "letters found by the old reason", len(s.letters(url.Values{"reason": {"the first reason"}}).Letters), 0)
	call[any](s, http.MethodDelete, "/api/dead-letters/"+again.ID, nil)
	equal(t, "dead letters after the only one was deleted", s.letters(nil).Total, 0)
	s.stop()
	s.verify()
}

// awaitRecipients waits for the dead letter of a broadcast with all its receivers.
func (s *service) awaitRecipients(reason string, n int) (found letter) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, "Django's refusal is a dead letter", func() bool {
		for _, l := range s.letters(nil).Letters {
			if l.Reason == reason && l.Recipients == n {
				found = l
				return true
			}
		}
		return false
	})
	return found
}
