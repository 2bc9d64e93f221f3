package http

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/limits"
)

// BenchmarkTakeResponse compares the response to a take of ten messages, which the
// service appends itself, with the same response written by the JSON library.
func BenchmarkTakeResponse(b *testing.B) {
	messages := make([]messaging.Message, 10)
	for i := range messages {
		messages[i] = messaging.Message{
			ID: messaging.MessageID{byte(i)}, Position: messaging.Position{Sequence: uint64(i + 1)}, CreatedAt: time.Now(),
			Body: fmt.Appendf(nil, `{"conversation_id":%d,"sender_id":1,"receiver_id":789,"text":"Hello from the load generator xxxxxxxxxxxxxxxxxxxxxxxx","metadata":{}}`, i),
		}
	}
	b.Run("by hand", func(b *testing.B) {
		s := &Server{inflight: limits.NewBudget(64 << 20)}
		b.ReportAllocs()
		for b.Loop() {
			resp, err := s.messagesResponse(&request{}, "789", messages)
			if err != nil {
				b.Fatal(err)
			}
			resp.release()
		}
	})
	b.Run("by the library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			content := struct {
				success

				User     messaging.UserID `json:"user_id"`
				Messages []jsontext.Value `json:"messages"`
				Count    int              `json:"count"`
			}{success: succeeded(), User: "789", Count: len(messages), Messages: make([]jsontext.Value, len(messages))}
			for i := range messages {
				content.Messages[i] = messages[i].AppendJSON(nil)
			}
			if _, err := json.Marshal(content); err != nil {
				b.Fatal(err)
			}
		}
	})
}
