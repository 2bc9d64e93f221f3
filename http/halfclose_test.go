package http_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	rest "github.com/stayafrica/messaging/http"
)

// cork delays writes, so that the last bytes and the end of the client's side arrive
// together.
func cork(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := tcpOf(conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) { optionErr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, 1) })
	if err = errors.Join(err, optionErr); err != nil {
		t.Fatal(err)
	}
}

// halfClosed sends one request, closes the client's side, and reads the response.
func halfClosed(t *testing.T, addr, method, path, body string) (status int, answer map[string]any) {
	t.Helper()
	conn, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cork(t, conn)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path)
	if body != "" {
		request += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(conn, request+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(conn); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s %s: %s", method, path, text)
	}
	return response.StatusCode, answer
}

// A client may close its side after its request. The server serves every such call
// except a plain take: the client may have left, and the messages would be lost.
func TestAClientThatClosesItsSideIsServedUnlessItTakes(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	const queue = "/api/messages/queue/789"
	for range 20 {
		if status, a := halfClosed(t, s.addr, "POST", "/api/messages/send", message); status != 200 {
			t.Fatalf("a send: %d %v", status, a)
		}
		if status, a := halfClosed(t, s.addr, "GET", queue+"?peek=true", ""); status != 200 || a["count"] != 1.0 {
			t.Errorf("a peek: %d %v", status, a)
		}
		status, a := halfClosed(t, s.addr, "GET", queue, "")
		if text, _ := a["message"].(string); status != http.StatusRequestTimeout || !strings.Contains(text, "lease") {
			t.Errorf("a plain take: %d %v", status, a)
		}
		status, a = halfClosed(t, s.addr, "GET", queue+"?lease=600", "")
		if status != 200 || a["count"] != 1.0 {
			t.Fatalf("a take under a lease: %d %v", status, a)
		}
		receipt := a["messages"].([]any)[0].(map[string]any)["receipt"]
		status, a = halfClosed(t, s.addr, "POST", "/api/messages/ack", fmt.Sprintf(`{"user_id":789,"receipts":[%q]}`, receipt))
		if status != 200 || a["results"].([]any)[0].(map[string]any)["result"] != "acked" {
			t.Errorf("an acknowledgement: %d %v", status, a)
		}
		if status, a := halfClosed(t, s.addr, "GET", queue, ""); status != 200 || a["count"] != 0.0 {
			t.Errorf("a plain take of an empty queue: %d %v", status, a)
		}
	}
	if status, a := halfClosed(t, s.addr, "GET", queue+"?wait=30", ""); status != 200 || a["count"] != 0.0 {
		t.Errorf("a long poll: %d %v", status, a)
	}
}
