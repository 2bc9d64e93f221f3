package http_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	rest "github.com/stayafrica/messaging/http"
)

// busyQueue refuses sends as overloaded.
type busyQueue struct{ rest.Queue }

func (busyQueue) Busy() error {
	err := messaging.Errorf(messaging.CodeOverloaded, "too many requests are waiting")
	err.RetryAfter = time.Second
	return err
}

// TestBusyServiceRefusesBeforeItReadsABody checks that an overloaded service refuses a
// send before it reads the body: to refuse it after that would cost as much as to
// accept it.
func TestBusyServiceRefusesBeforeItReadsABody(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly, RequestTimeout: 20 * time.Second})
	busy := s.backend
	busy.Queue = busyQueue{s.backend.Queue}
	s.server.Open(busy)
	for _, call := range []string{"send", "batch", "broadcast"} {
		began := time.Now()
		got := s.talk("POST /api/messages/" + call + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" +
			"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "\r\nRetry-After: 1\r\n") || !strings.Contains(got, `"code":"overloaded"`) {
			t.Errorf("%s: %q", call, got)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it waited for the body for %s", call, took)
		}
	}
	if status, answer := s.do("GET", "/api/messages/queue/1", ""); status != 200 {
		t.Errorf("a take: %d %v", status, answer)
	}
}
