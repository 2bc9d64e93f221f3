package main_test

import (
	"net/http"
	"testing"
	"time"
)

func TestRetentionEmptiesLogAndQueues(t *testing.T) {
	s := startService(t, "MESSAGE_RETENTION_DAYS=0.00002") // under two seconds
	for range 20 {
		s.send(t, 1, "old")
	}
	eventually(t, 20*time.Second, "the queue is empty", func() bool {
		_, answer := s.get("/api/stats")
		return answer["queue_messages"] == 0.0
	})
	s.send(t, 1, "new")
	_, answer := s.get("/api/messages/queue/789")
	if answer["count"] != 1.0 {
		t.Errorf("the queue returned %v", answer)
	}
	s.kill()
	s.start(t) // an empty log opens and continues its sequence
	if status, answer := s.post("/api/messages/send", `{"conversation_id":1,"sender_id":1,"receiver_id":1,"text":"x"}`); status != http.StatusOK || answer["sequence"] != 22.0 {
		t.Errorf("%d %v", status, answer)
	}
}
