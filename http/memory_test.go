package http_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

// TestUnfinishedBatchesAndSlowReadersAreAccountedFor checks that unfinished requests and
// responses count towards MAX_INFLIGHT_BYTES, and that other requests are refused as
// overloaded over it.
func TestUnfinishedBatchesAndSlowReadersAreAccountedFor(t *testing.T) {
	const limit = 1 << 20
	t.Run("an unfinished message of a batch", func(t *testing.T) {
		s := serve(t, rest.Config{Access: loopbackOnly, MaxInflightBytes: limit})
		conn := s.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "POST /api/messages/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n")
		fmt.Fprintf(conn, `{"messages":[{"x":"%s`, strings.Repeat("x", 500_000))
		s.waitInflight(900_000)
		s.wantOverloadedSoon()
	})
	t.Run("a response that is not read", func(t *testing.T) {
		s := serve(t, rest.Config{Access: loopbackOnly})
		body := fmt.Sprintf(`{"conversation_id":1,"sender_id":2,"receiver_id":1,"text":"x","y":"%s"}`, strings.Repeat("y", 900_000))
		for range 8 {
			if status, answer := s.do("POST", "/api/messages/send", body); status != 200 {
				t.Fatal(answer)
			}
		}
		conn := s.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /api/messages/queue/1?peek=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
		begins := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, begins); err != nil || string(begins) != "HTTP/1.1 200" {
			t.Fatalf("%q %v", begins, err)
		}
		s.waitInflight(5_000_000) // six of the eight: a response takes an eighth of the memory that is left
	})
}

func (s *served) dial() net.Conn {
	s.t.Helper()
	conn, err := dial(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := tcpOf(conn).SetReadBuffer(4096); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// waitInflight waits until at least least bytes are reserved.
func (s *served) waitInflight(least float64) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_, rest, _ := strings.Cut(s.raw("GET", "/metrics", "", nil).text, "\nmessaging_inflight_bytes ")
		value, _, _ := strings.Cut(rest, "\n")
		if n, err := strconv.ParseFloat(value, 64); err == nil && n >= least {
			return
		}
	}
	s.t.Error("the bytes that have arrived are not reserved")
}

// wantOverloadedSoon waits until a send is refused as overloaded.
func (s *served) wantOverloadedSoon() {
	s.t.Helper()
	body := fmt.Sprintf(`{"conversation_id":1,"sender_id":2,"receiver_id":2,"text":"x","y":"%s"}`, strings.Repeat("y", 400_000))
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if status, answer := s.do("POST", "/api/messages/send", body); status == 503 && answer["code"] == "overloaded" {
			return
		}
	}
	s.t.Error("no send is refused as overloaded")
}

func TestBatchThatHasNotBegunHoldsLittle(t *testing.T) {
	for _, media := range []string{"application/json", "application/x-ndjson"} {
		t.Run(media, func(t *testing.T) {
			s := serve(t, rest.Config{Access: loopbackOnly, MaxInflightBytes: 1 << 20})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const n = 200
			var conns []net.Conn
			for range n {
				c := s.dial()
				fmt.Fprintf(c, "POST /api/messages/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: 500\r\n\r\n{", media)
				conns = append(conns, c)
			}
			time.Sleep(500 * time.Millisecond)
			runtime.GC()
			runtime.ReadMemStats(&after)
			for _, c := range conns {
				_ = c.Close()
			}
			each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
			t.Logf("%d bytes each", each)
			if each > 40_000 {
				t.Errorf("a batch of which one byte has arrived uses %d bytes, which are not reserved", each)
			}
		})
	}
}
