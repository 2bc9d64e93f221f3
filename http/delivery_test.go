package http_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
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
