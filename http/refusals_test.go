package http_test

import (
	"strconv"
	"strings"
	"testing"

	rest "github.com/stayafrica/messaging/http"
)

func TestHeadersGivenSeveralTimesAreRefused(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true})
	for _, headers := range []string{
		"Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n",
		"Content-Type: application/json\r\nContent-Encoding: identity, gzip\r\n",
		"Content-Type: application/json\r\nContent-Encoding: \r\nContent-Encoding: gzip\r\n",
		"Content-Type: application/json\r\nContent-Type: text/plain\r\n",
		"Content-Type: text/plain\r\nContent-Type: application/json\r\n",
	} {
		got := s.talk("POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "Content-Length: " + strconv.Itoa(len(message)) + "\r\n\r\n" + message)
		if !strings.HasPrefix(got, "HTTP/1.1 415 ") || !strings.Contains(got, `"unsupported_media_type"`) {
			t.Errorf("%q: %q", headers, got)
		}
	}
	if s.log.Durable() != 0 {
		t.Errorf("%d messages were stored", s.log.Durable())
	}
}

func TestAllowNamesTheMethodsThatAreTaken(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true})
	for _, c := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/api/messages/send", 405, "POST"},
		{"OPTIONS", "/api/messages/send", 405, "POST"},
		{"TRACE", "/api/messages/send", 405, "POST"},
		{"OPTIONS", "/api/stats", 405, "GET"},
		{"DELETE", "/health", 405, "GET, HEAD"},
		{"PUT", "/api/messages/queue/5", 405, "DELETE, GET"},
		{"OPTIONS", "*", 405, "DELETE, GET, HEAD, POST"},
		{"CONNECT", "localhost:1", 405, "DELETE, GET, HEAD, POST"},
		{"TRACE", "/nothing", 405, "DELETE, GET, HEAD, POST"},
		{"OPTIONS", "/nothing", 404, ""},
		{"GET", "*", 404, ""},
	} {
		got := s.talk(c.method + " " + c.target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 "+strconv.Itoa(c.status)+" ") {
			t.Errorf("%s %s: %q, want %d", c.method, c.target, head, c.status)
		}
		_, allow, _ := strings.Cut(head, "\r\nAllow: ")
		allow, _, _ = strings.Cut(allow, "\r\n")
		if allow != c.allow || !strings.Contains(body, `"code":`) {
			t.Errorf("%s %s: Allow %q, want %q; %s", c.method, c.target, allow, c.allow, body)
		}
	}
}
