package http_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/engine"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// loopbackOnly allows every call under a name of loopback.
var loopbackOnly = auth.New(auth.Config{LoopbackOnly: true})

// backendToken is the token of tests with one token.
const backendToken = "a secret of the backend"

// served is a server with an engine on a file system in memory.
type served struct {
	t      *testing.T
	addr   string
	server *rest.Server
	secure bool // it speaks TLS
	// token is the bearer token of requests without their own Authorization.
	token string
	// tokenFor, if set, returns the token of a request instead.
	tokenFor func(path, body string) string
	store    *storage.Store
	log      *wal.Log
	engine   *engine.Engine
	backend  rest.Backend
	full     bool
}

func serve(t *testing.T, config rest.Config) *served {
	t.Helper()
	return serveEngine(t, config, engine.Config{})
}

// serveEngine is serve with a configuration of the engine.
func serveEngine(t *testing.T, config rest.Config, engineConfig engine.Config) *served {
	t.Helper()
	store, err := storage.Open(storage.Config{Dir: "/data", FS: vfs.NewMem(), Control: storage.NewMemoryControl().Open, MemTableBytes: 1 << 20})
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
	config = secured(config)
	s := &served{t: t, server: rest.New(config), secure: config.TLS != nil, store: store, log: log, engine: e}
	if config.Access.Closed() {
		s.token = backendToken
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	if status, answer := s.do("GET", "/api/stats", ""); status != 503 || answer["code"] != "not_ready" {
		t.Errorf("before Open: %d %v", status, answer)
	}
	s.backend = rest.Backend{
		Queue: e, DeadLetters: e.DeadLetters(), DiskOK: func() bool { return !s.full },
		Stats: func() messaging.Stats { st := e.Stats(); st.Drain = messaging.DrainRunning; return st },
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

// serveWithoutEngine returns an open server without an engine.
func serveWithoutEngine(t *testing.T, config rest.Config) *served {
	t.Helper()
	s := serveUnopened(t, config)
	s.server.Open(rest.Backend{DiskOK: func() bool { return true }, Stats: func() messaging.Stats { return messaging.Stats{} }})
	return s
}

// serveUnopened returns a server before its Open.
func serveUnopened(t *testing.T, config rest.Config) *served {
	t.Helper()
	config = secured(config)
	s := &served{t: t, server: rest.New(config), secure: config.TLS != nil}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	go func() { _ = s.server.Serve(l) }()
	t.Cleanup(func() { _ = s.server.Close() })
	return s
}

// url returns the address of the server.
func (s *served) url() string {
	if s.secure {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

var client = &http.Client{Transport: newTransport(), Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (s *served) do(method, path, body string) (int, map[string]any) {
	s.t.Helper()
	got := s.raw(method, path, body, nil)
	var members map[string]any
	if err := json.Unmarshal([]byte(got.text), &members); err != nil && got.text != "" {
		s.t.Errorf("%s %s: the response is not JSON: %q", method, path, got.text)
	}
	return got.status, members
}

// received is a response with its body.
type received struct {
	status int
	header http.Header
	text   string
}

func (s *served) raw(method, path, body string, header map[string]string) received {
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
	return received{response.StatusCode, response.Header, string(text)}
}

// request returns a request. A body is JSON unless header has another Content-Type.
func (s *served) request(method, path, body string, header map[string]string) *http.Request {
	s.t.Helper()
	request, err := http.NewRequest(method, s.url()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	token := s.token
	if s.tokenFor != nil {
		token = s.tokenFor(path, body)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
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

// talk writes bytes to a new connection and returns everything that it reads until the
// connection ends.
func (s *served) talk(text string) string {
	s.t.Helper()
	conn, err := dial(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	_, _ = io.WriteString(conn, text)
	answer, _ := io.ReadAll(bufio.NewReader(conn))
	return string(answer)
}

// begin sends the head of a request and part of its body, and leaves the connection open.
func (s *served) begin(head, body string) {
	s.t.Helper()
	conn, err := dial(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, head+"Host: localhost\r\nContent-Type: application/json\r\n"+body)
}

const (
	beginSend      = "POST /api/messages/send HTTP/1.1\r\n"
	beginBroadcast = "POST /api/messages/broadcast HTTP/1.1\r\n"
)

// inflight returns the number of reserved bytes.
func (s *served) inflight() (bytes int64) {
	s.t.Helper()
	text := s.raw("GET", "/metrics", "", nil).text
	_, after, _ := strings.Cut(text, "\nmessaging_inflight_bytes ")
	if _, err := fmt.Sscan(after, &bytes); err != nil {
		s.t.Fatalf("no messaging_inflight_bytes: %v", err)
	}
	return bytes
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition is not true after 10 seconds")
		}
	}
}
