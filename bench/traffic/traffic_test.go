package traffic_test

import (
	"bytes"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/traffic"
)

// TestMessages parses the generated messages with the service's own parser.
func TestMessages(t *testing.T) {
	prose := traffic.NewProse(1)
	total := 0
	for user := range 2000 {
		for _, body := range [][]byte{traffic.Message(user), prose.AppendMessage(nil, user)} {
			if _, err := messaging.ParseDraft(body); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
		}
		total += len(prose.Append(nil))
	}
	if mean := total / 2000; mean < 100 || mean > 200 {
		t.Errorf("texts have %d bytes on average, want about 150", mean)
	}
	if n := len(traffic.Message(1234)); n < 200 || n > 230 {
		t.Errorf("a message has %d bytes, want about 220", n)
	}
}

func TestProseFollowsItsSeed(t *testing.T) {
	if !bytes.Equal(traffic.NewProse(7).Append(nil), traffic.NewProse(7).Append(nil)) {
		t.Error("the same seed returned two texts")
	}
	if bytes.Equal(traffic.NewProse(7).AppendMessage(nil, 1), traffic.NewProse(8).AppendMessage(nil, 1)) {
		t.Error("two seeds returned the same text")
	}
}

func TestUsersAreSpread(t *testing.T) {
	seen := make(map[int]bool)
	for n := range traffic.Users {
		seen[traffic.User(3, n, traffic.Users)] = true
	}
	if len(seen) != traffic.Users {
		t.Errorf("%d users in %d calls, want every one", len(seen), traffic.Users)
	}
}
