package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// wire is one keep-alive connection to the service. Unlike [http.Client] it never
// repeats a request by itself, and it reports whether a failed request can have reached
// the service.
type wire struct {
	host string
	conn net.Conn
	in   *bufio.Reader
	// dials counts the connections.
	dials int
}

// answerTime is the time limit of a response.
const answerTime = 60 * time.Second

func newWire(base string) (*wire, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%w: %q", errAddress, base)
	}
	return &wire{host: u.Host}, nil
}

var (
	errAddress = errors.New("the address must be http://host:port")
	// errUnsent means that the request did not leave and cannot have arrived.
	errUnsent = errors.New("there is no connection")
)

// do makes a request. Any error except errUnsent leaves its outcome unknown.
func (w *wire) do(method, path, media, key string, body []byte) (status int, responseBody []byte, err error) {
	if w.conn == nil {
		dialer := net.Dialer{Timeout: 2 * time.Second} // a call that has begun outlives every context
		if w.conn, err = dialer.Dial("tcp", w.host); err != nil {
			w.conn = nil
			return 0, nil, fmt.Errorf("%w: %w", errUnsent, err)
		}
		w.in = bufio.NewReaderSize(w.conn, 32<<10)
		w.dials++
	}
	status, responseBody, err = w.exchange(method, path, media, key, body)
	if err != nil {
		w.close()
	}
	return status, responseBody, err
}

func (w *wire) exchange(method, path, media, key string, body []byte) (int, []byte, error) {
	request := make([]byte, 0, 256+len(body))
	request = fmt.Appendf(request, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, w.host)
	if key != "" {
		request = fmt.Appendf(request, "Idempotency-Key: %s\r\n", key)
	}
	if media != "" {
		request = fmt.Appendf(request, "Content-Type: %s\r\nContent-Length: %d\r\n", media, len(body))
	}
	request = append(append(request, "\r\n"...), body...)
	_ = w.conn.SetDeadline(time.Now().Add(answerTime)) // if this fails, the write fails too
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }() // the body is read to its end
	var responseBody bytes.Buffer
	if _, err := io.Copy(&responseBody, response.Body); err != nil {
		return 0, nil, err
	}
	if response.Close {
		w.close()
	}
	return response.StatusCode, responseBody.Bytes(), nil
}

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.Close() // no pending write can be lost
		w.conn = nil
	}
}
