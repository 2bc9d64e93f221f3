package http_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/internal/hostiletest"
)

// plainStatuses are the statuses that net/http writes itself, in plain text.
var plainStatuses = []int{400, 431, 501, 505}

// TestRigHostile sends the whole corpus. Each refused case must get its status and a JSON
// error with a code, must not be stored or echoed, and memory must stay bounded. Cases
// that take time or many connections are in hostile_test.go, slow_test.go and
// connections_test.go. Responses of Django are in the tests of package persist.
func TestRigHostile(t *testing.T) {
	cases := hostiletest.Cases(t, "../testdata/hostile")
	torture.Run(t, 1, func(r *torture.Round) {
		s := serve(t, rest.Config{Access: loopbackOnly, RequestTimeout: 5 * time.Second})
		before := heapInUse()
		for _, c := range cases {
			(&hostile{TB: r, served: s, addr: s.addr, name: c.Name}).check(&c)
		}
		eventually(t, func() bool { return s.inflight() == 0 })
		if grown := heapInUse() - before; grown > 32<<20 {
			r.Errorf("the heap grew by %d bytes", grown)
		}
		r.Count("cases", len(cases))
	})
}

// TestRigHostileCatchesAHandlerThatStores uses a server that stores refused messages.
func TestRigHostileCatchesAHandlerThatStores(t *testing.T) {
	catches(t, func(s *served, _ string, _ *httptest.ResponseRecorder) {
		draft, err := messaging.ParseDraft([]byte(message))
		if err == nil {
			_, _ = s.engine.Send(draft, messaging.IdempotencyKey{})
		}
	})
}

// TestRigHostileCatchesAHandlerThatEchoes uses a server that echoes refused bodies.
func TestRigHostileCatchesAHandlerThatEchoes(t *testing.T) {
	catches(t, func(_ *served, body string, answer *httptest.ResponseRecorder) { answer.Body.WriteString(body) })
}

// TestRigHostileCatchesAHandlerThatKeeps uses a server that leaks refused bodies.
func TestRigHostileCatchesAHandlerThatKeeps(t *testing.T) {
	catches(t, func(_ *served, body string, _ *httptest.ResponseRecorder) {
		for range 40 {
			kept = append(kept, bytes.Repeat([]byte(body), 2))
		}
	})
	kept = nil
}

var kept [][]byte

// catches sends the corpus to a server that runs harm for each refused request. The
// checks must fail.
func catches(t *testing.T, harm func(s *served, body string, answer *httptest.ResponseRecorder)) {
	t.Helper()
	cases := slices.DeleteFunc(hostiletest.Cases(t, "../testdata/hostile"), func(c hostiletest.Case) bool { return !c.Short || !strings.HasPrefix(c.Send, "POST") })
	torture.Control(t, 1, func(r *torture.Round) {
		s := serve(t, rest.Config{Access: loopbackOnly})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			body, _ := io.ReadAll(io.LimitReader(request.Body, 4<<20)) // a truncated body is refused as well
			request.Body = io.NopCloser(bytes.NewReader(body))
			answer := httptest.NewRecorder()
			s.server.ServeHTTP(answer, request)
			if answer.Code >= 400 {
				harm(s, string(body), answer)
			}
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		}))
		defer server.Close()
		for _, c := range cases {
			(&hostile{TB: r, served: s, addr: server.Listener.Addr().String(), name: c.Name}).check(&c)
		}
	})
}

// hostile checks one case. Its errors begin with the name of the case.
type hostile struct {
	testing.TB

	served *served
	addr   string
	name   string
}

func (h *hostile) wrong(format string, args ...any) {
	h.Helper()
	h.Errorf("%s: %s", h.name, fmt.Sprintf(format, args...))
}

func (h *hostile) check(c *hostiletest.Case) {
	h.Helper()
	stored, allocated := h.served.log.Durable(), allocatedBytes()
	status, answer := h.exchange(c.Send)
	if status != c.Status {
		h.wrong("got %d %.300q, want %d", status, answer, c.Status)
	}
	if limit := uint64(16<<20 + 24*len(c.Send)); allocatedBytes()-allocated > limit {
		h.wrong("%d bytes allocated %d bytes", len(c.Send), allocatedBytes()-allocated)
	}
	if status >= 400 {
		h.refused(status, answer)
		if h.served.log.Durable() != stored {
			h.wrong("the refused request was stored")
		}
	}
	h.wanted(c, answer)
	if h.served.log.Durable() != stored {
		h.served.do("DELETE", "/api/messages/queue/789", "")
	}
}

// refused checks the form of a refusal.
func (h *hostile) refused(status int, answer string) {
	h.Helper()
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	switch {
	case strings.Contains(head, "Content-Type: application/json"):
		if !strings.HasPrefix(body, `{"status":"error","message":"`) || !strings.Contains(body, `"code":"`) || !strings.Contains(body, `"field":`) {
			h.wrong("the error is incomplete: %.300q", body)
		}
	case !slices.Contains(plainStatuses, status):
		h.wrong("%d without JSON: %.300q", status, answer)
	}
	for _, never := range []string{"canary", "goroutine ", ".go:"} {
		if strings.Contains(answer, never) {
			h.wrong("the response has %q: %.300q", never, answer)
		}
	}
	if status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported {
		h.wrong("a client's request caused %d", status)
	}
}

func (h *hostile) wanted(c *hostiletest.Case, answer string) {
	h.Helper()
	for _, want := range c.Wants {
		switch want.Kind {
		case "has", "never":
			if strings.Contains(answer, want.Text) != (want.Kind == "has") {
				h.wrong("got %.300q, want: %s %s", answer, want.Kind, want.Text)
			}
		case "kept":
			if queue := h.served.raw("GET", "/api/messages/queue/789?peek=true", "", nil).text; !strings.Contains(queue, want.Text) {
				h.wrong("the queue does not have %.100q: %.300q", want.Text, queue)
			}
		default:
			h.Fatalf("%s: unknown kind %q", h.name, want.Kind)
		}
	}
}

// exchange writes bytes to a connection and reads the response at the same time, because
// the response may arrive before all bytes are written.
func (h *hostile) exchange(text string) (status int, answer string) {
	h.Helper()
	conn, err := dial(h.addr)
	if err != nil {
		h.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	go func() { _, _ = io.WriteString(conn, text) }()
	all, _ := io.ReadAll(bufio.NewReader(conn)) // a reset may follow the response
	if _, err := fmt.Sscanf(string(all), "HTTP/1.%d %d", new(int), &status); err != nil {
		h.wrong("no response: %.100q", all)
	}
	return status, string(all)
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func allocatedBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// idleQueue is a queue that must not be called.
type idleQueue struct{ rest.Queue }

func (idleQueue) Busy() error { return nil }

// BenchmarkRefusals refuses the cases of the corpus without the network. slowest-ms is the
// duration of the slowest case.
func BenchmarkRefusals(b *testing.B) {
	server := rest.New(rest.Config{Access: loopbackOnly})
	server.Open(rest.Backend{Queue: idleQueue{}})
	cases := slices.DeleteFunc(hostiletest.Cases(b, "../testdata/hostile"), func(c hostiletest.Case) bool {
		return !c.Short || c.Status < 400 || c.Status == 409 || !strings.HasPrefix(c.Send, "POST")
	})
	var slowest time.Duration
	for n := 0; b.Loop(); n++ {
		c := &cases[n%len(cases)]
		request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.Send)))
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		slowest = max(slowest, time.Since(began))
		if answer.Code != c.Status {
			b.Fatalf("%s: %d %s", c.Name, answer.Code, answer.Body)
		}
	}
	b.ReportMetric(float64(len(cases)), "cases")
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
}
