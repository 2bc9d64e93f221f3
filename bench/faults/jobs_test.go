package faults_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// slowReplays starts n replays that send one message per second.
func (s *service) slowReplays(n int, from uint64) {
	s.t.Helper()
	for range n {
		s.replay(fields{"from_sequence": from, "rate": 1})
	}
}

// TestReplaysDoNotBlockARedrive: redrives have a limit of their own. In earlier
// revisions eight slow replays used up the common limit.
func TestReplaysDoNotBlockARedrive(t *testing.T) {
	fault(t, "9")
	backend := startDjango(t, stores)
	s := startService(t, backend.env(), "QUEUE_MAX_DELIVERIES=1")
	s.batch("8", 100)
	s.send("7", "dead", nil)
	s.makeUndeliverable(1)
	s.slowReplays(8, 1)
	status, responseBody, err := s.try(http.MethodPost, "/api/dead-letters/redrive", all())
	if err != nil || status != http.StatusOK {
		t.Fatalf("a redrive during eight replays is refused: %d %s (%v)", status, responseBody, err)
	}
	eventually(t, 10*time.Second, "the redrive puts the message into its queue", func() bool { return s.size("7").Total == 1 })
	equal(t, "dead letters after the redrive", s.letters(nil).Total, 0)
}

// TestReplaysDoNotStopRetention: at most two replays hold back retention. In earlier
// revisions eight replays held back the whole log.
func TestReplaysDoNotStopRetention(t *testing.T) {
	fault(t, "9")
	t.Parallel() // the test mostly waits
	const sent, kept = 40, 10
	backend := startDjango(t, stores)
	s := startService(t, backend.env(), retention(6*time.Second))
	s.batch("8", sent)
	eventually(t, 30*time.Second, "Django has all messages", func() bool { return s.lag() == 0 })
	s.slowReplays(2, sent-kept+1)
	s.slowReplays(6, 1)
	s.trimmed("8", kept)
}

// trimmed waits until retention has left that many messages in a queue: those that two
// replays have not read yet.
func (s *service) trimmed(user string, kept int) {
	s.t.Helper()
	began := time.Now()
	for left := s.size(user).Total; left > kept; left = s.size(user).Total {
		if time.Since(began) > 16*time.Second {
			s.t.Fatalf("retention is 6s, two replays have still to read the last %d messages, and the queue still has %d", kept, left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestReplayCountsWhatRetentionTrimmed: a replay that does not hold back retention
// skips messages that were trimmed before it read them, and its job counts them.
func TestReplayCountsWhatRetentionTrimmed(t *testing.T) {
	fault(t, "9")
	t.Parallel() // the test mostly waits
	const sent, kept = 300, 10
	backend := startDjango(t, stores)
	s := startService(t, backend.env(), retention(6*time.Second))
	text := strings.Repeat("x", 60_000) // a replay reads ahead, but not as far as all of these
	drafts := make([]fields, sent)
	for i := range drafts {
		drafts[i] = draft("8", text, nil)
	}
	call[any](s, http.MethodPost, "/api/messages/batch", map[string]any{"messages": drafts})
	eventually(t, 30*time.Second, "Django has all messages", func() bool { return s.lag() == 0 })
	backend.setScript(down) // so that all replays stop at their positions
	s.slowReplays(2, sent-kept+1)
	other := s.replay(fields{"from_sequence": 1})
	s.trimmed("8", kept)
	backend.setScript(stores)
	j := s.ended(other.ID, 20*time.Second)
	if j.State != "done" || j.Failed == 0 || !strings.Contains(j.Error, "trimmed") {
		t.Errorf("a replay of %d messages, most of them trimmed before it read them, ends as %+v", sent, j)
	}
	if stored := len(backend.stored()) - sent; uint64(stored)+j.Failed < sent {
		t.Errorf("of a replay of %d messages Django got %d, and the job counts %d as failed", sent, stored, j.Failed)
	}
}
