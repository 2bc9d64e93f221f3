package main_test

import (
	"testing"
	"time"
)

// Retention trims messages around a delayed one. Those that waited for the backend count as
// trimmed, like those at the front of the log.
func TestAStartSaysWhatWasTrimmedAroundAMessageWhileTheDrainWasOff(t *testing.T) {
	backend := startStoring(t)
	s, dir := startOff(t)
	s.terminate()
	s.with(t, "MESSAGE_RETENTION_DAYS=0.00005") // four seconds
	s.send(t, 1, "later")
	_, leased := s.get("/api/messages/queue/789?lease=60")
	messages, _ := leased["messages"].([]any)
	if len(messages) != 1 {
		t.Fatalf("leased %v", leased)
	}
	m, _ := messages[0].(map[string]any)
	receipt, _ := m["receipt"].(string)
	if status, answer := s.post("/api/messages/nack", `{"user_id":789,"receipts":["`+receipt+`"],"delay_seconds":3600}`); status != 200 {
		t.Fatalf("nack: %d %v", status, answer)
	}
	for range 4 {
		s.send(t, 1, "old")
	}
	eventually(t, 20*time.Second, "retention has trimmed", func() bool {
		_, size := s.get("/api/messages/queue/789/size")
		return size["total"] == 1.0
	})
	time.Sleep(time.Second)
	if _, stats := s.get("/api/stats"); stats["drain_lag_messages"] != 1.0 {
		t.Errorf("the statistics report %v messages that wait for the backend, want 1", stats["drain_lag_messages"])
	}
	s.terminate()
	if got := skip(t, dir, "--to", "now"); got.Waiting != 1 || got.Gone != 4 {
		t.Errorf("a skip counts %+v, want 1 that waits and 4 that were trimmed", got)
	}
	if got := skip(t, dir, "--to", "4"); got.Forgotten != 1 {
		t.Errorf("a skip to 4 forgets %d messages, want the one before those that were trimmed", got.Forgotten)
	}
	s.with(t, "DJANGO_API_URL=http://127.0.0.1:1")
	eventually(t, 10*time.Second, "the drain waits", func() bool { _, stats := s.get("/api/stats"); return stats["drain"] == "waiting" })
	s.wantDrain(t, "waiting", "waiting (1 message waits)", "1")
	s.wantLog(t, "1 message waits, 4 were trimmed")
	s.with(t, "DJANGO_API_URL="+backend.url)
	backend.wantStored(t, "later")
	eventually(t, 10*time.Second, "nothing waits", func() bool { _, stats := s.get("/api/stats"); return stats["drain_lag_messages"] == 0.0 })
	s.wantLog(t, "1 message waits, 4 were trimmed")
	if got := skip(t, dir, "--to", "now"); got.Waiting != 0 || got.Gone != 0 {
		t.Errorf("after all was drained a skip counts %+v", got)
	}
}
