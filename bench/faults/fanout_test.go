package faults_test

import (
	"fmt"
	"testing"
	"time"
)

// users returns n user ids.
func users(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%07d", prefix, i)
	}
	return ids
}

// countReceived returns how many of the users have a message.
func (s *service) countReceived(users []string) (n int) {
	s.t.Helper()
	for _, user := range users {
		n += s.size(user).Total
	}
	return n
}

// sample returns a part of the users, including the last one.
func sample(users []string, of int) (some []string) {
	for i := len(users) - 1; i >= 0; i -= len(users) / of {
		some = append(some, users[i])
	}
	return some
}

// TestLargeBroadcastDoesNotDelayASmallOne: broadcasts take turns, in the order of their
// number of remaining receivers, smallest first. In earlier revisions a small broadcast
// waited for the whole of a large one.
func TestLargeBroadcastDoesNotDelayASmallOne(t *testing.T) {
	fault(t, "8")
	large, small := users("large", 300_000), users("small", 5_000)
	s := startService(t)
	s.broadcast("to 300,000", large)
	s.broadcast("to 5,000", small)
	few := sample(small, 50)
	began := time.Now()
	eventually(t, 2*time.Minute, "the small broadcast is in its queues", func() bool { return s.countReceived(few) == len(few) })
	took := time.Since(began)
	many := sample(large, 50)
	if n := s.countReceived(many); n == len(many) {
		t.Errorf("a broadcast to 5,000 was in its queues after %s, later than an earlier broadcast to 300,000", took.Round(time.Millisecond))
	}
	eventually(t, 2*time.Minute, "the large broadcast is in its queues", func() bool { return s.stats().Fanouts == 0 })
	equal(t, "queues of a sample of the large one that have it", s.countReceived(many), len(many))
	equal(t, "queues of the small one that have it", s.countReceived(small), len(small))
}
