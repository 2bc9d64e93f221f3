package http_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

func TestConnectionsOverTheLimitWaitAndHealthIsAnswered(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly, MaxConnections: 4, RequestTimeout: 20 * time.Second})
	client.CloseIdleConnections()
	var unfinished []net.Conn
	for range 4 { // a connection with an unfinished request is not idle
		conn, err := dial(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		unfinished = append(unfinished, conn)
	}
	time.Sleep(100 * time.Millisecond)
	if got := s.talk("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
		t.Errorf("health: %q", got)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := s.talk("GET /api/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
			t.Errorf("a request that waited for a slot: %q", got)
		}
	})
	time.Sleep(100 * time.Millisecond)
	for _, conn := range unfinished {
		_ = conn.Close()
	}
	wg.Wait()
}

func TestLongestIdleConnectionsAreClosedNearTheLimit(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly, MaxConnections: 8})
	client.CloseIdleConnections()
	var conns []*bufio.Reader
	var raw []net.Conn
	for range 12 { // each sends one request and stays open
		conn, err := dial(s.addr)
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
	// The server may see the first few connections become idle in another order than
	// that of their responses. The last ones stay open.
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
		t.Errorf("%d of 12 connections were closed, with a limit of 8", closed)
	}
}
