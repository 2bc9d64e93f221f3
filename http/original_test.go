package http_test

import (
	"testing"

	rest "github.com/stayafrica/messaging/http"
)

func TestFiveCallsOfTheOriginal(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	if status, a := s.do("GET", "/health", ""); status != 200 || a["status"] != "ok" || a["service"] != "messaging_service" || a["timestamp"] == nil {
		t.Errorf("health: %d %v", status, a)
	}
	status, a := s.do("POST", "/api/messages/send", message)
	if status != 200 || a["status"] != "success" || a["message"] != "Message queued" || a["sequence"] != 1.0 {
		t.Errorf("send: %d %v", status, a)
	}
	status, b := s.do("POST", "/api/messages/broadcast", `{"message":{"sender_id":1,"text":"all","message_type":"system"},"user_ids":[123,456,789]}`)
	if status != 200 || b["message"] != "Broadcast queued" || b["recipients"] != 3.0 || b["sequence"] != 2.0 {
		t.Errorf("broadcast: %d %v", status, b)
	}
	for _, query := range []string{"?peek=true&max_count=5", ""} {
		status, q := s.do("GET", "/api/messages/queue/789"+query, "")
		messages, _ := q["messages"].([]any)
		if status != 200 || q["user_id"] != "789" || q["count"] != 2.0 || len(messages) != 2 {
			t.Fatalf("queue%s: %d %v", query, status, q)
		}
		first, _ := messages[0].(map[string]any)
		if first["id"] != a["id"] || first["text"] != "Hello!" || first["receiver_id"] != 789.0 || first["priority"] != "normal" {
			t.Errorf("first message: %v", first)
		}
		second, _ := messages[1].(map[string]any)
		if second["receiver_id"] != 789.0 || second["message_type"] != "system" || second["id"] == b["id"] {
			t.Errorf("second message: %v", second)
		}
	}
	eventually(t, func() bool { return s.log.Queued() == 2 })
	status, st := s.do("GET", "/api/stats", "")
	memory, _ := st["memory"].(map[string]any)
	counters, _ := st["counters"].(map[string]any)
	if status != 200 || st["messages_processed"] != 4.0 || counters["messages_processed"] != 4.0 || memory["total"] == nil || st["process_count"] == nil {
		t.Errorf("stats: %d %v", status, st)
	}
}
