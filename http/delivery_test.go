package http_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	rest "github.com/stayafrica/messaging/http"
)

// deliveryQueue is a queue that delivers one message and records the calls of Finish.
type deliveryQueue struct {
	rest.Queue
	outcomes []bool
}

func (q *deliveryQueue) Take(context.Context, messaging.UserID, messaging.TakeOptions) (messaging.Delivery, error) {
	message := messaging.Message{Body: []byte(`{"text":"x"}`)}
	return messaging.Delivery{
		Messages: []messaging.Message{message},
		Finish:   func(delivered bool) { q.outcomes = append(q.outcomes, delivered) },
	}, nil
}

// connection is a fake client connection. onFlush runs when the response reaches the
// kernel.
type connection struct {
	*httptest.ResponseRecorder
	onFlush func() error
}

func (c *connection) SetWriteDeadline(time.Time) error { return nil }
func (c *connection) FlushError() error                { return c.onFlush() }

func TestMessageLeavesTheQueueWhenItsAnswerLeftWhileTheRequestWasAlive(t *testing.T) {
	for _, c := range []struct {
		name         string
		goneBefore   bool
		goneMeantime bool
		flush        error
		delivered    bool
	}{
		{name: "answered", delivered: true},
		{name: "answered, and the client closes as soon as it has read", goneMeantime: true, delivered: true},
		{name: "the client has gone before", goneBefore: true},
		{name: "the connection broke", flush: errors.New("broken pipe")},
	} {
		t.Run(c.name, func(t *testing.T) {
			queue := &deliveryQueue{}
			server := rest.New(rest.Config{})
			server.Open(rest.Backend{Queue: queue})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.goneBefore {
				cancel()
			}
			w := &connection{httptest.NewRecorder(), func() error {
				if c.goneMeantime {
					cancel()
				}
				return c.flush
			}}
			server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/messages/queue/789", http.NoBody).WithContext(ctx))
			if len(queue.outcomes) != 1 || queue.outcomes[0] != c.delivered {
				t.Errorf("Finish was called with %v, want once with %t", queue.outcomes, c.delivered)
			}
		})
	}
}

func TestDeliveryToAReaderThatLeftStaysQueued(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly, RequestTimeout: 2 * time.Second})
	large := `{"conversation_id":1,"sender_id":2,"receiver_id":789,"text":"` + strings.Repeat("x", 60<<10) + `"}`
	const n = 120
	for range n {
		if status, a := s.do("POST", "/api/messages/send", large); status != 200 {
			t.Fatal(status, a)
		}
	}
	conn, err := dial(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = tcpOf(conn).SetReadBuffer(4096)
	_, _ = io.WriteString(conn, "GET /api/messages/queue/789?max_count=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	time.Sleep(100 * time.Millisecond)
	_, _ = s.do("GET", "/api/messages/queue/789?max_count=1", "") // another reader takes a message meanwhile
	_ = tcpOf(conn).SetLinger(0)
	_ = conn.Close() // most of the response is unread
	time.Sleep(100 * time.Millisecond)
	got := 0
	eventually(t, func() bool {
		_, q := s.do("GET", "/api/messages/queue/789?max_count=1000", "")
		got += int(q["count"].(float64))
		return got >= n-1
	})
}
