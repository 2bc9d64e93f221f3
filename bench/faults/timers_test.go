package faults_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestVerifyFindsNothingAfterAClearOfDelayedAndExpiringMessages: in earlier revisions
// the timers of cleared messages remained, and verify reported corruption.
func TestVerifyFindsNothingAfterAClearOfDelayedAndExpiringMessages(t *testing.T) {
	fault(t, "4")
	s := startService(t)
	for _, more := range []fields{
		{"delay_seconds": 3600}, {"ttl_seconds": 3600}, {"delay_seconds": 1800, "ttl_seconds": 3600}, {"ttl_seconds": 3600, "priority": "high"},
	} {
		s.send("7", "timed", more)
	}
	s.get("7", "lease=60&max_count=1") // one of them is cleared under its lease
	s.clear("7", 4)
	s.send("7", "after the clear", fields{"delay_seconds": 1, "ttl_seconds": 3600})
	eventually(t, 10*time.Second, "the message sent after the clear is due", func() bool { return s.size("7").Normal == 1 })
	equal(t, "messages in the queue", s.size("7").Total, 1)
	s.stop()
	s.verify()
	s.start()
	equal(t, "messages in the queue after a restart", s.size("7").Total, 1)
}

func (s *service) clear(user string, n int) {
	s.t.Helper()
	cleared := call[struct{ Cleared int }](s, "DELETE", "/api/messages/queue/"+user, nil).Cleared
	equal(s.t, "cleared messages", cleared, n)
	equal(s.t, "messages in a queue that was cleared", s.size(user).Total, 0)
}

// TestVerifyFindsNothingAfterAnAckOfAnExpiredLease: a message that expires while it is
// leased is acknowledged. In earlier revisions its moved timer remained, and verify
// reported corruption.
func TestVerifyFindsNothingAfterAnAckOfAnExpiredLease(t *testing.T) {
	fault(t, "4")
	s := startService(t)
	s.send("7", "short-lived", fields{"ttl_seconds": 1})
	s.send("7", "lasting", fields{"ttl_seconds": 3600})
	leased := s.get("7", "lease=60")
	equal(t, "leased messages", len(leased.Messages), 2)
	s.waitForExpiry(time.Second)
	if got := s.ackOrNack("ack", leased.receipts(), nil); !slices.Equal(got, []string{"acked", "acked"}) {
		t.Errorf("the acknowledgement of a message that expired under its lease, and of another: %q", got)
	}
	equal(t, "messages in the queue", s.size("7").Total, 0)
	s.stop()
	s.verify()
}

// waitForExpiry waits until messages with this lifetime, sent until now, have expired
// and the service has processed that: a message with the same lifetime that is sent now
// is gone.
func (s *service) waitForExpiry(ttl time.Duration) {
	s.t.Helper()
	s.send("witness", "short-lived", fields{"ttl_seconds": int(ttl.Seconds())})
	eventually(s.t, ttl+10*time.Second, "a message expires", func() bool { return s.size("witness").Total == 0 })
}

// TestExpiredMessagesEvictNoneAfterARestart: messages that expired under a lease are
// gone when the service is ready again. In earlier revisions they counted for up to a
// minute and evicted messages from a full queue.
func TestExpiredMessagesEvictNoneAfterARestart(t *testing.T) {
	fault(t, "5")
	t.Parallel() // the test mostly waits
	for _, c := range []struct {
		name string
		end  func(s *service)
	}{{"killed", func(s *service) { s.Kill() }}, {"stopped", func(s *service) { s.stop() }}} {
		t.Run(c.name, func(t *testing.T) {
			s := startService(t, "MESSAGE_QUEUE_MAX_SIZE=3")
			for range 3 {
				s.send("7", "short-lived", fields{"ttl_seconds": 1, "priority": "high"})
			}
			equal(t, "leased messages", len(s.get("7", "lease=60").Messages), 3)
			s.waitForExpiry(time.Second)
			c.end(s)
			s.start()
			for _, text := range []string{"1", "2", "3"} {
				s.send("7", text, nil)
			}
			equal(t, "messages evicted from a queue whose other messages have expired", s.stats().Evicted, 0)
			if got := s.get("7", "peek=true").texts(); !slices.Equal(got, []string{"1", "2", "3"}) {
				t.Errorf("the queue has %q, want all three that were sent after the restart", got)
			}
			equal(t, "messages in the queue", s.size("7").Total, 3)
			s.stop()
			s.verify()
		})
	}
}

// day is a day in seconds, for settings in days.
const day = 86_400.0

// retention returns the setting for a retention period.
func retention(d time.Duration) string {
	return fmt.Sprintf("MESSAGE_RETENTION_DAYS=%.9f", d.Seconds()/day)
}

// TestMessageNackedWithADelayDoesNotStopRetention: such a message holds back only
// itself. In earlier revisions it held back the whole log after it, for all users.
func TestMessageNackedWithADelayDoesNotStopRetention(t *testing.T) {
	fault(t, "6")
	t.Parallel() // the test mostly waits
	s := startService(t, retention(4*time.Second))
	s.send("7", "delayed", nil)
	leased := s.get("7", "lease=60")
	if got := s.ackOrNack("nack", leased.receipts(), fields{"delay_seconds": 3600}); !slices.Equal(got, []string{"nacked"}) {
		t.Fatalf("the nack returned %q", got)
	}
	s.batch("8", 50)
	began := time.Now()
	for s.size("8").Total > 0 {
		if time.Since(began) > 14*time.Second {
			t.Errorf("retention is 4s, and another user's queue still has %d messages of %s ago", s.size("8").Total, time.Since(began).Round(time.Second))
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	equal(t, "delayed messages of the nacking user", s.size("7").Delayed, 1)
	s.stop()
	s.verify()
	s.start()
	equal(t, "delayed messages of the nacking user, after a restart", s.size("7").Delayed, 1)
}
