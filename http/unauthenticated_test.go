package http_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging/auth"
	rest "github.com/stayafrica/messaging/http"
)

// guarded is a configuration with a token.
func guarded(c rest.Config) rest.Config {
	c.Access = auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}})
	return c
}

// openWith opens a connection that is closed at the end of the test, and writes to it.
func (s *served) openWith(text string) net.Conn {
	s.t.Helper()
	c, err := dial(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, text)
	return c
}

// TestRefusedCallersAreAnsweredBeforeTheirBody: the response does not wait for the body,
// and the connection ends long before the time that a body may take.
func TestRefusedCallersAreAnsweredBeforeTheirBody(t *testing.T) {
	s := serve(t, guarded(rest.Config{RequestTimeout: time.Hour}))
	for _, c := range []struct{ name, request string }{
		{"a short body", beginSend + "Host: localhost\r\nContent-Length: 10\r\n\r\n"},
		{"a large body", beginBroadcast + "Host: localhost\r\nContent-Length: 60000000\r\n\r\n{"},
		{"chunks", beginSend + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"},
		{"a wrong token", beginSend + "Host: localhost\r\nAuthorization: Bearer wrong\r\nContent-Length: 10\r\n\r\n"},
		{"an unknown call", "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"},
		{"an unknown method", "PUT /api/stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"},
		{"no body", "GET /api/messages/queue/1?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bufio.NewReader(s.openWith(c.request))
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode < 400 || !resp.Close || !bytes.Contains(body, []byte(`"code"`)) || err != nil {
				t.Errorf("%d, close %t, %q, %v", resp.StatusCode, resp.Close, body, err)
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("the connection stays open")
			}
		})
	}
}

// TestARefusedCallerThatSendsItsBodyGetsTheResponse: the server has closed the connection
// before the client reads, and a reset has not discarded the response.
func TestARefusedCallerThatSendsItsBodyGetsTheResponse(t *testing.T) {
	s := serve(t, guarded(rest.Config{RequestTimeout: time.Minute}))
	for _, size := range []int{1 << 10, 200 << 10} {
		c := s.openWith(beginSend + "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat(" ", size))
		eventually(t, func() bool { return s.gauge("messaging_http_unauthenticated_connections") == 0 })
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d bytes: %v, %v", size, resp, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestUnauthenticatedConnectionsHoldFewPlaces: connections without an accepted request,
// in each form of waiting, close each other. Clients with a token and health checks are
// served meanwhile, and an idle connection with an accepted request stays open.
func TestUnauthenticatedConnectionsHoldFewPlaces(t *testing.T) {
	log := new(lockedBuffer)
	s := serve(t, guarded(rest.Config{
		MaxConnections: 100, MaxUnauthenticated: 10, RequestTimeout: time.Hour, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}))
	const accepted = "GET /api/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a secret of the backend\r\n\r\n"
	idle := s.openWith(accepted)
	idleReader := bufio.NewReader(idle)
	read := func() {
		t.Helper()
		resp, err := http.ReadResponse(idleReader, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	read()
	var flood []net.Conn
	for i, begun := range []string{
		"",
		"POST /api/mess",
		beginSend + "Host: localhost\r\nContent-Le",
		beginSend + "Host: localhost\r\nContent-Length: 10\r\n\r\n",
		"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
	} {
		for range 60 {
			flood = append(flood, s.openWith(begun))
		}
		if got := s.raw("POST", "/api/messages/send", message, nil); got.status != http.StatusOK {
			t.Errorf("a client with a token, beside %q: %d %s", begun, got.status, got.text)
		}
		if got := s.talk("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
			t.Errorf("health, beside %q: %q", begun, got)
		}
		eventually(t, func() bool { return s.gauge("messaging_http_connections") <= 14 })
		if got := s.gauge("messaging_http_unauthenticated_connections"); got > 10 {
			t.Errorf("case %d: %v connections are unauthenticated", i, got)
		}
	}
	_, _ = io.WriteString(idle, accepted)
	read()
	for _, c := range flood {
		_ = c.Close()
	}
	eventually(t, func() bool { return strings.Contains(log.String(), "below half of their limit again") })
	if n := strings.Count(log.String(), "without an accepted request have reached their limit"); n != 1 {
		t.Errorf("the log has %d lines about the limit:\n%s", n, log)
	}
}

// gauge reads a metric.
func (s *served) gauge(name string) float64 {
	s.t.Helper()
	_, rest, _ := strings.Cut("\n"+s.raw("GET", "/metrics", "", nil).text, "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		s.t.Fatalf("no %s: %v", name, err)
	}
	return n
}
