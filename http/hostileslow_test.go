package http_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

// TestClientsWithoutAnEndAreCutOff checks that endless requests end at the deadline, and
// that other clients are served meanwhile.
func TestClientsWithoutAnEndAreCutOff(t *testing.T) {
	const deadline = time.Second
	s := serve(t, rest.Config{Access: loopbackOnly, RequestTimeout: deadline})
	endless := func(text string) func(n int) string { return func(int) string { return text } }
	head := beginSend + "Host: localhost\r\nContent-Type: application/json\r\n"
	cases := []struct {
		name, begins string
		goesOn       func(n int) string
		want         string // prefix of the response; empty where net/http only closes the connection
	}{
		{"chunks", head + "Transfer-Encoding: chunked\r\n\r\n", endless("1\r\n \r\n"), "HTTP/1.1 408 "},
		{"a body", head + "Content-Length: 100000\r\n\r\n", endless(" "), "HTTP/1.1 408 "},
		{"a line of a batch", "POST /api/messages/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n", endless("1\r\n{\r\n"), ""},
		{"a header", "GET /api/stats HTTP/1.1\r\nHost: localhost\r\nX-A: ", endless("a"), ""},
		{"headers", "GET /api/stats HTTP/1.1\r\nHost: localhost\r\n", func(n int) string { return fmt.Sprintf("X-%d: a\r\n", n) }, ""},
		{"a request line", "GET /", endless("a"), ""},
		{"nothing", "", endless(""), ""},
	}
	var wg sync.WaitGroup
	for _, c := range cases {
		wg.Go(func() {
			began := time.Now()
			answer := s.trickle(c.begins, c.goesOn)
			if took := time.Since(began); took < deadline/2 || took > 5*deadline {
				t.Errorf("%s: cut off after %s, with a deadline of %s", c.name, took, deadline)
			}
			if !strings.HasPrefix(answer, c.want) || strings.Contains(answer, "200 OK") {
				t.Errorf("%s: %q, want %s", c.name, answer, c.want)
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if status, answer := s.do("GET", "/api/messages/queue/1", ""); status != 200 {
				t.Errorf("another client: %d %v", status, answer)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	wg.Wait()
	if s.log.Durable() != 0 || s.inflight() != 0 {
		t.Errorf("%d messages and %d bytes are left of the endless requests", s.log.Durable(), s.inflight())
	}
}

// trickle sends begins, and then a part from goesOn every 20 ms until the connection ends.
// It returns the response.
func (s *served) trickle(begins string, goesOn func(n int) string) string {
	conn, err := dial(s.addr)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	go func() {
		_, err := io.WriteString(conn, begins)
		for n := 0; err == nil; n++ {
			time.Sleep(20 * time.Millisecond)
			_, err = io.WriteString(conn, goesOn(n))
		}
	}()
	answer, _ := io.ReadAll(conn) // the connection may end with a reset
	return string(answer)
}

// TestConnectionsThatComeAndGoLeaveNothing opens connections and closes or resets them,
// with and without part of a request.
func TestConnectionsThatComeAndGoLeaveNothing(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly, MaxConnections: 64})
	for _, begins := range []string{
		"", "G", "GET /api/stats HTTP/1.1\r\n", "GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n",
		beginSend + "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n{",
	} {
		for _, linger := range []int{-1, 0} { // an end, and a reset
			for range 50 {
				conn, err := dial(s.addr)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, begins)
				_ = tcpOf(conn).SetLinger(linger)
				_ = conn.Close()
			}
		}
	}
	eventually(t, func() bool {
		return strings.Contains(s.raw("GET", "/metrics", "", nil).text, "messaging_http_connections 1\n")
	})
	if s.inflight() != 0 || s.log.Durable() != 0 {
		t.Errorf("%d bytes and %d messages are left", s.inflight(), s.log.Durable())
	}
}

// TestConcurrentCallsWithOneKeyStoreOnce checks that concurrent calls with one idempotency
// key store once and get the same id.
func TestConcurrentCallsWithOneKeyStoreOnce(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	ids := make(chan string, 16)
	var wg sync.WaitGroup
	for range cap(ids) {
		wg.Go(func() {
			response, err := client.Do(s.request("POST", "/api/messages/send", message, map[string]string{"Idempotency-Key": "twins"}))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			text, _ := io.ReadAll(response.Body)
			_, id, _ := strings.Cut(string(text), `"id":"`)
			id, _, _ = strings.Cut(id, `"`)
			ids <- id
		})
	}
	wg.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first || id == "" {
			t.Errorf("one key has the ids %q and %q", first, id)
		}
	}
	if s.log.Durable() != 1 {
		t.Errorf("%d messages are stored", s.log.Durable())
	}
}
