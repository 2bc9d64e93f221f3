package http_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

func TestBodyTooLargeEndsTheConnection(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat(" ", 1<<20))
	got := s.talk(beginSend + "Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + chunk)
	if !strings.HasPrefix(got, "HTTP/1.1 413 ") || !strings.Contains(got, "\r\nConnection: close\r\n") {
		t.Errorf("%.200q", got)
	}
}

func TestAbortInTheMiddleOfABodyStoresNothing(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	for _, body := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(message)+1, message),
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(message), message[:len(message)-1]),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(message), message), // without the last chunk
	} {
		for _, linger := range []int{-1, 0} { // an end, and a reset
			conn, err := dial(s.addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, beginSend+"Host: localhost\r\nContent-Type: application/json\r\n"+body)
			time.Sleep(20 * time.Millisecond)
			_ = tcpOf(conn).SetLinger(linger)
			_ = conn.Close()
		}
	}
	eventually(t, func() bool { return s.inflight() == 0 })
	if s.log.Durable() != 0 {
		t.Errorf("%d messages of incomplete bodies were stored", s.log.Durable())
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	conn, err := dial(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	const n = 1000
	go func() {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, "GET /api/messages/queue/u%d HTTP/1.1\r\nHost: localhost\r\n\r\n", i)
		}
		_, _ = io.WriteString(conn, all.String())
	}()
	r := bufio.NewReader(conn)
	for i := range n {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		var said struct {
			User string `json:"user_id"`
		}
		err = json.NewDecoder(response.Body).Decode(&said)
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil || said.User != "u"+strconv.Itoa(i) {
			t.Fatalf("response %d is for %q (%v)", i, said.User, err)
		}
	}
}

func TestHostileConnections(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly, RequestTimeout: time.Second})
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
	if got := s.log.Durable(); got != 1 { // the chunked one was complete
		t.Errorf("%d messages were stored, want 1", got)
	}
}
