package http_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

func TestSlowBodiesCountForWhatArrived(t *testing.T) {
	for _, c := range []struct{ name, head, body string }{
		{"chunked", beginSend, "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"},
		{"chunked broadcast", beginBroadcast, "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"},
		{"declared", beginSend, "Content-Length: 1000000\r\n\r\n{"},
		{"declared broadcast", beginBroadcast, "Content-Length: 60000000\r\n\r\n{"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, rest.Config{Access: loopbackOnly, MaxInflightBytes: 256 << 10, RequestTimeout: 20 * time.Second})
			for range 4 {
				s.begin(c.head, c.body)
			}
			eventually(t, func() bool { return s.inflight() > 0 })
			if got := s.raw("POST", "/api/messages/send", message, nil); got.status != http.StatusOK {
				t.Errorf("%d %s", got.status, got.text)
			}
		})
	}
}

func TestTooManyBytesInFlightAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, head, body string
		limit            int64
	}{
		{"a declared length", beginSend, "Content-Length: 50000\r\n\r\n" + strings.Repeat(" ", 40_000), 32 << 10},
		{"chunks", beginSend, fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", 40_000, strings.Repeat(" ", 40_000)), 32 << 10},
		{"a broadcast counts for more than its body", beginBroadcast, "Content-Length: 50000\r\n\r\n" + strings.Repeat(" ", 40_000), 128 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, rest.Config{Access: loopbackOnly, MaxInflightBytes: c.limit, RequestTimeout: 2 * time.Second})
			s.begin(c.head, c.body)
			eventually(t, func() bool { return s.inflight() == c.limit })
			got := s.raw("POST", "/api/messages/send", message, nil)
			if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || !strings.Contains(got.text, "overloaded") {
				t.Errorf("%d %s", got.status, got.text)
			}
			eventually(t, func() bool { return s.inflight() == 0 })
			large := strings.Replace(message, "Hello!", strings.Repeat("x", 40_000), 1)
			if got := s.raw("POST", "/api/messages/send", large, nil); got.status != http.StatusOK {
				t.Errorf("alone and larger than the limit: %d %s", got.status, got.text)
			}
		})
	}
}
