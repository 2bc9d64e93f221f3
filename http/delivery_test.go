package http_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	rest "github.com/stayafrica/messaging/http"
)

// handing is a queue that hands one message out and notes what became of it.
type handing struct {
	rest.Queue
	settled []bool
}

func (q *handing) Take(context.Context, messaging.UserID, messaging.TakeOptions) (messaging.Handout, error) {
	message := messaging.Message{Body: []byte(`{"text":"x"}`)}
	return messaging.Handout{
		Messages: []messaging.Message{message},
		Settle:   func(delivered bool) { q.settled = append(q.settled, delivered) },
	}, nil
}

// connection stands for a client's connection: onFlush is what happens when the
// answer reaches the kernel.
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
			queue := &handing{}
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
			if len(queue.settled) != 1 || queue.settled[0] != c.delivered {
				t.Errorf("settled %v, want once as %t", queue.settled, c.delivered)
			}
		})
	}
}

func TestHandoutToAReaderThatLeftStaysQueued(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true, RequestTimeout: 2 * time.Second})
	large := `{"conversation_id":1,"sender_id":2,"receiver_id":789,"text":"` + strings.Repeat("x", 60<<10) + `"}`
	const n = 120
	for range n {
		if status, a := s.do("POST", "/api/messages/send", large); status != 200 {
			t.Fatal(status, a)
		}
	}
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	_, _ = io.WriteString(conn, "GET /api/messages/queue/789?max_count=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	time.Sleep(100 * time.Millisecond)
	_, _ = s.do("GET", "/api/messages/queue/789?max_count=1", "") // others are served meanwhile
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close() // with most of the answer not read
	time.Sleep(100 * time.Millisecond)
	got := 0
	eventually(t, func() bool {
		_, q := s.do("GET", "/api/messages/queue/789?max_count=1000", "")
		got += int(q["count"].(float64))
		return got >= n-1
	})
}
