package http_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// served is a server with a real engine on a file system in memory.
type served struct {
	t      *testing.T
	addr   string
	server *rest.Server
	// token is sent where a request brings no Authorization of its own.
	token   string
	store   *storage.Store
	log     *wal.Log
	engine  *engine.Engine
	backend rest.Backend
	full    bool
	control *filling
}

// filling is a control file whose disk can be full.
type filling struct {
	*storage.MemoryControl

	full atomic.Bool
}

func (f *filling) Update(change func(tx storage.ControlTx) error) error {
	if f.full.Load() {
		return syscall.ENOSPC
	}
	return f.MemoryControl.Update(change)
}

func serve(t *testing.T, config rest.Config) *served {
	t.Helper()
	return serveEngine(t, config, engine.Config{})
}

// serveEngine is serve with an engine that is set up otherwise.
func serveEngine(t *testing.T, config rest.Config, engineConfig engine.Config) *served {
	t.Helper()
	control := &filling{MemoryControl: storage.NewMemoryControl()}
	open := func() (storage.ControlFile, error) { return control, nil }
	store, err := storage.Open(storage.Config{Dir: "/data", FS: vfs.NewMem(), Control: open, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	log, err := wal.Open(wal.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	engineConfig.Store, engineConfig.Log = store, log
	e, err := engine.Open(engineConfig)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, server: rest.New(config), store: store, log: log, engine: e, control: control}
	if len(config.Tokens) > 0 {
		s.token = config.Tokens[0].Secret
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	if status, answer := s.do("GET", "/api/stats", ""); status != 503 || answer["code"] != "not_ready" {
		t.Errorf("before it is open: %d %v", status, answer)
	}
	s.backend = rest.Backend{
		Queue: e, DeadLetters: store.Control(), DiskOK: func() bool { return !s.full },
		Stats: func() messaging.Stats { return e.Stats() },
	}
	s.server.Open(s.backend)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.server.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = log.Close()
		_ = store.Close()
	})
	return s
}

var client = &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (s *served) do(method, path, body string) (int, map[string]any) {
	s.t.Helper()
	got := s.raw(method, path, body, nil)
	var members map[string]any
	if err := json.Unmarshal([]byte(got.text), &members); err != nil && got.text != "" {
		s.t.Errorf("%s %s: the answer is not JSON: %q", method, path, got.text)
	}
	return got.status, members
}

// answer is what came back, its body read.
type answer struct {
	status int
	header http.Header
	text   string
}

func (s *served) raw(method, path, body string, header map[string]string) answer {
	s.t.Helper()
	response, err := client.Do(s.request(method, path, body, header))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// request makes a request of JSON, unless the header says otherwise.
func (s *served) request(method, path, body string, header map[string]string) *http.Request {
	s.t.Helper()
	request, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	for name, value := range header {
		request.Header.Set(name, value)
		if name == "Host" {
			request.Host = value
		}
	}
	return request
}

const message = `{"conversation_id":1,"sender_id":2,"receiver_id":789,"text":"Hello!"}`

func TestFiveCallsOfTheOriginal(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true})
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
	if status != 200 || st["messages_processed"] != 2.0 || counters["messages_processed"] != 2.0 || memory["total"] == nil || st["process_count"] == nil {
		t.Errorf("stats: %d %v", status, st)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 seconds")
		}
	}
}

func TestRefusals(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true})
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

func TestTokens(t *testing.T) {
	s := serve2(t, rest.Config{Tokens: []rest.Token{{"a", "old"}, {"b", "new"}}, MetricsToken: "scrape", AllowedHosts: []string{"messages.example"}})
	host := map[string]string{"Host": "messages.example:8765"}
	for _, c := range []struct {
		path, authorization string
		status              int
	}{
		{"/api/stats", "Bearer old", 200},
		{"/api/stats", "Token new", 200},
		{"/api/stats", "", 401},
		{"/api/stats", "Bearer ", 401},
		{"/api/stats", "Bearer wrong", 401},
		{"/api/stats", "Basic old", 401},
		{"/api/stats", "Bearer scrape", 401},
		{"/metrics", "Bearer scrape", 200},
		{"/metrics", "Bearer old", 200},
		{"/metrics", "", 401},
		{"/health", "", 200},
		{"/health/ready", "", 200},
	} {
		header := map[string]string{"Host": host["Host"]}
		if c.authorization != "" {
			header["Authorization"] = c.authorization
		}
		if got := s.raw("GET", c.path, "", header); got.status != c.status {
			t.Errorf("%s with %q: %d %s, want %d", c.path, c.authorization, got.status, got.text, c.status)
		}
	}
	if got := s.raw("GET", "/api/stats", "", map[string]string{"Host": "other.example", "Authorization": "Bearer old"}); got.status != http.StatusMisdirectedRequest {
		t.Errorf("another name: %d, want 421", got.status)
	}
}

// serve2 is serve for a server that needs a token from the start.
func serve2(t *testing.T, config rest.Config) *served {
	t.Helper()
	s := starting(t, config)
	s.server.Open(rest.Backend{DiskOK: func() bool { return true }, Stats: func() messaging.Stats { return messaging.Stats{} }})
	return s
}

// starting is a server that is not open yet.
func starting(t *testing.T, config rest.Config) *served {
	t.Helper()
	s := &served{t: t, server: rest.New(config)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	go func() { _ = s.server.Serve(l) }()
	t.Cleanup(func() { _ = s.server.Close() })
	return s
}

func TestReadiness(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true})
	if status, a := s.do("GET", "/health/ready", ""); status != 200 || a["ready"] != true {
		t.Errorf("%d %v", status, a)
	}
	s.full = true
	if status, a := s.do("GET", "/health/ready", ""); status != 503 || a["disk"] != false || a["recovered"] != true {
		t.Errorf("%d %v", status, a)
	}
	s.full = false
	s.server.Drain()
	if status, a := s.do("GET", "/health/ready", ""); status != 503 || a["draining"] != true {
		t.Errorf("%d %v", status, a)
	}
}

// talk writes bytes to a connection and reads all that comes back.
func (s *served) talk(text string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	_, _ = io.WriteString(conn, text)
	answer, _ := io.ReadAll(bufio.NewReader(conn))
	return string(answer)
}

func TestHostileConnections(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true, RequestTimeout: time.Second})
	head := "POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(message), message)
	smuggled := "GET /api/messages/queue/789 HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for _, c := range []struct{ name, text, want, never string }{
		{"length and chunks", head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + smuggled, "200 OK", `"count"`},
		{"body that never ends", head + "Content-Length: 100\r\n\r\n{", "408", "200 OK"},
		{"connect", "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405", ""},
		{"absolute form for another host", "GET http://evil.example/api/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "403", ""},
		{"large headers", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1500000) + "\r\n\r\n", "431", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.talk(c.text)
			first, _, _ := strings.Cut(got, "\r\n")
			if c.name != "large headers" && !strings.Contains(first, c.want) {
				t.Errorf("answered %q, want %s", got, c.want)
			}
			if c.never != "" && strings.Contains(got, c.never) {
				t.Errorf("answered %q with %s in it", got, c.never)
			}
		})
	}
	if got := s.log.Durable(); got != 1 { // the chunked one was whole
		t.Errorf("%d messages were stored, want 1", got)
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

func TestConnectionsOverTheLimitWaitAndHealthIsAnswered(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true, MaxConnections: 4, RequestTimeout: 20 * time.Second})
	client.CloseIdleConnections()
	var held []net.Conn
	for range 4 { // requests that are not finished are no idle connections
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		held = append(held, conn)
	}
	time.Sleep(100 * time.Millisecond)
	if got := s.talk("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
		t.Errorf("health: %q", got)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := s.talk("GET /api/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
			t.Errorf("a request that waited for a place: %q", got)
		}
	})
	time.Sleep(100 * time.Millisecond)
	for _, conn := range held {
		_ = conn.Close()
	}
	wg.Wait()
}

func TestMetricsAreReadable(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true})
	_, _ = s.do("POST", "/api/messages/send", message)
	text := s.raw("GET", "/metrics", "", nil).text
	for _, want := range []string{
		`messaging_http_request_seconds_bucket{route="/api/messages/send",method="POST",code="200",le="`,
		"messaging_http_connections ", "messaging_inflight_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestLongestIdleConnectionsAreClosedNearTheLimit(t *testing.T) {
	s := serve(t, rest.Config{LoopbackOnly: true, MaxConnections: 8})
	client.CloseIdleConnections()
	var conns []*bufio.Reader
	var raw []net.Conn
	for range 12 { // each asks once and stays
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, "GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r := bufio.NewReader(conn)
		response, err := http.ReadResponse(r, nil)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", response, err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		conns, raw = append(conns, r), append(raw, conn)
	}
	// The server may see the first few become idle in another order than they
	// were answered in; the last ones stay.
	closed := 0
	for i, r := range conns {
		_ = raw[i].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := r.ReadByte()
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if closed++; i >= 8 {
			t.Errorf("connection %d of 12 was closed before older ones", i)
		}
	}
	if closed < 4 {
		t.Errorf("%d of 12 connections were closed, with places for 8", closed)
	}
}
