package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestOneQueueCannotTakeAllLeases: the leases of one queue are limited, by default to
// 20,000, below the limit of all queues. In earlier revisions one caller could take all
// leases of the service.
func TestOneQueueCannotTakeAllLeases(t *testing.T) {
	fault(t, "11")
	for _, c := range []struct {
		name        string
		env         []string
		most, share int
	}{{"by default", nil, 20_000, 1000}, {"QUEUE_MAX_LEASED=5", []string{"QUEUE_MAX_LEASED=5"}, 5, 5}} {
		t.Run(c.name, func(t *testing.T) {
			s := startService(t, c.env...)
			s.batch("7", c.most+2*c.share)
			s.send("8", "another", nil)
			for leased := 0; leased < c.most; leased += c.share {
				if n := len(s.lease("7", c.share).Messages); n != c.share {
					t.Fatalf("%d messages are leased, and a lease of %d more returns %d", leased, c.share, n)
				}
			}
			status, responseBody, err := s.try(http.MethodGet, "/api/messages/queue/7?lease=60&max_count=1", nil)
			var refused struct{ Code string }
			if err != nil || status != http.StatusTooManyRequests || json.Unmarshal(responseBody, &refused) != nil || refused.Code != "too_many_requests" {
				t.Errorf("one queue has %d messages under leases, and the next lease returns %d %.100s (%v), want 429 too_many_requests", c.most, status, responseBody,
					err)
			}
			equal(t, "leased messages of another queue", len(s.lease("8", 1).Messages), 1)
		})
	}
}

// lease leases up to n messages of a user.
func (s *service) lease(user string, n int) messages {
	s.t.Helper()
	return s.get(user, "lease=60&max_count="+fmt.Sprint(n))
}

// TestImmediateNacksDoNotStarveAQueue: a message that is repeatedly nacked at once
// returns after a growing pause. Without the pause, a reader of its queue never got
// another message.
func TestImmediateNacksDoNotStarveAQueue(t *testing.T) {
	fault(t, "11")
	t.Parallel() // the test mostly waits
	s := startService(t)
	s.send("7", "bad", nil)
	for _, text := range []string{"1", "2", "3"} {
		s.send("7", text, nil)
	}
	var good []string
	nacks := 0
	for end := time.Now().Add(5 * time.Second); len(good) < 3 && time.Now().Before(end); {
		for _, m := range s.lease("7", 1).Messages {
			if m.Text == "bad" {
				nacks++
				s.ackOrNack("nack", []string{m.Receipt}, nil)
				continue
			}
			good = append(good, m.Text)
			s.ackOrNack("ack", []string{m.Receipt}, nil)
		}
	}
	if !slices.Equal(good, []string{"1", "2", "3"}) {
		t.Errorf("a reader that nacks one message at once got it %d times in 5s, and of the three after it %q", nacks, good)
	}
	equal(t, "messages in the queue", s.size("7").Total, 1)
}
