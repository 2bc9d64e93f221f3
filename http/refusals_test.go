package http_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	rest "github.com/stayafrica/messaging/http"
)

func TestRefusals(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	big := `{"text":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, c := range []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		code, field              string
	}{
		{name: "bad JSON", method: "POST", path: "/api/messages/send", body: "{", status: 400, code: "invalid_json"},
		{name: "missing field", method: "POST", path: "/api/messages/send", body: "{}", status: 400, code: "missing_field", field: "conversation_id"},
		{name: "no content type", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Content-Type": ""}, status: 415, code: "unsupported_media_type"},
		{name: "other content type", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Content-Type": "text/plain"}, status: 415, code: "unsupported_media_type"},
		{name: "other charset", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Content-Type": "application/json; charset=latin1"}, status: 415, code: "unsupported_media_type"},
		{name: "compressed", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Content-Encoding": "gzip"}, status: 415, code: "unsupported_media_type"},
		{name: "too large", method: "POST", path: "/api/messages/send", body: big, status: 413, code: "too_large"},
		{name: "idempotency key with a space", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Idempotency-Key": "a b"}, status: 400, code: "invalid_field", field: "Idempotency-Key"},
		{name: "empty idempotency key", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Idempotency-Key": ""}, status: 400, code: "invalid_field", field: "Idempotency-Key"},
		{name: "long idempotency key", method: "POST", path: "/api/messages/send", body: message, header: map[string]string{"Idempotency-Key": strings.Repeat("x", 256)}, status: 400, code: "invalid_field", field: "Idempotency-Key"},
		{name: "no such call", method: "GET", path: "/api/nothing", status: 404, code: "not_found"},
		{name: "trailing slash", method: "GET", path: "/api/stats/", status: 404, code: "not_found"},
		{name: "double slash", method: "GET", path: "//api/stats", status: 404, code: "not_found"},
		{name: "other case", method: "GET", path: "/API/stats", status: 404, code: "not_found"},
		{name: "matrix parameter", method: "GET", path: "/api/stats;x", status: 404, code: "not_found"},
		{name: "wrong method", method: "GET", path: "/api/messages/send", status: 405, code: "method_not_allowed"},
		{name: "trace", method: "TRACE", path: "/api/stats", status: 405, code: "method_not_allowed"},
		{name: "delete", method: "DELETE", path: "/health", status: 405, code: "method_not_allowed"},
		{name: "encoded slash", method: "GET", path: "/api/messages/queue/5%2Fsize", status: 404, code: "not_found"},
		{name: "encoded NUL", method: "GET", path: "/api/messages/queue/5%00", status: 400, code: "invalid_field", field: "user_id"},
		{name: "overlong UTF-8", method: "GET", path: "/api/messages/queue/%c0%ae", status: 400, code: "invalid_field", field: "user_id"},
		{name: "dots", method: "GET", path: "/api/messages/queue/%2e%2e", status: 400, code: "invalid_field", field: "user_id"},
		{name: "long segment", method: "GET", path: "/api/messages/queue/" + strings.Repeat("a", 8192), status: 400, code: "invalid_field", field: "user_id"},
		{name: "count 0", method: "GET", path: "/api/messages/queue/5?max_count=0", status: 400, code: "invalid_field", field: "max_count"},
		{name: "count -1", method: "GET", path: "/api/messages/queue/5?max_count=-1", status: 400, code: "invalid_field", field: "max_count"},
		{name: "count large", method: "GET", path: "/api/messages/queue/5?max_count=1e9", status: 400, code: "invalid_field", field: "max_count"},
		{name: "count empty", method: "GET", path: "/api/messages/queue/5?max_count=", status: 400, code: "invalid_field", field: "max_count"},
		{name: "count twice", method: "GET", path: "/api/messages/queue/5?max_count=1&max_count=2", status: 400, code: "invalid_field", field: "max_count"},
		{name: "unknown parameter", method: "GET", path: "/api/messages/queue/5?follow=5", status: 400, code: "invalid_field"},
		{name: "foreign host", method: "GET", path: "/api/stats", header: map[string]string{"Host": "evil.example"}, status: 403, code: "forbidden"},
		{name: "foreign page", method: "GET", path: "/api/messages/queue/5", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403, code: "forbidden"},
		{name: "no such dead letter", method: "GET", path: "/api/dead-letters/refused-01a20b02-36c5-74aa-b0e6-49477247185c", status: 404, code: "not_found"},
		{name: "bad dead letter", method: "GET", path: "/api/dead-letters/x", status: 400, code: "invalid_field", field: "id"},
		{name: "bad kind", method: "GET", path: "/api/dead-letters?kind=x", status: 400, code: "invalid_field", field: "kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.raw(c.method, c.path, c.body, c.header)
			var a map[string]any
			_ = json.Unmarshal([]byte(got.text), &a)
			field, _ := a["field"].(string)
			if got.status != c.status || a["status"] != "error" || a["code"] != c.code || field != c.field {
				t.Errorf("%d %s, want %d %s %s", got.status, got.text, c.status, c.code, c.field)
			}
			if _, has := a["field"]; !has || a["message"] == "" {
				t.Errorf("incomplete: %s", got.text)
			}
			if c.status == 405 && got.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
	if s.log.Durable() != 0 {
		t.Errorf("%d refused messages were stored", s.log.Durable())
	}
}

func TestHeadersGivenSeveralTimesAreRefused(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	for _, headers := range []string{
		"Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n",
		"Content-Type: application/json\r\nContent-Encoding: identity, gzip\r\n",
		"Content-Type: application/json\r\nContent-Encoding: \r\nContent-Encoding: gzip\r\n",
		"Content-Type: application/json\r\nContent-Type: text/plain\r\n",
		"Content-Type: text/plain\r\nContent-Type: application/json\r\n",
	} {
		got := s.talk("POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers +
			"Content-Length: " + strconv.Itoa(len(message)) + "\r\n\r\n" + message)
		if !strings.HasPrefix(got, "HTTP/1.1 415 ") || !strings.Contains(got, `"unsupported_media_type"`) {
			t.Errorf("%q: %q", headers, got)
		}
	}
	if s.log.Durable() != 0 {
		t.Errorf("%d messages were stored", s.log.Durable())
	}
}

func TestAllowNamesTheMethodsThatAreTaken(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
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
