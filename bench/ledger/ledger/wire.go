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
// repeats a request behind our back, and says whether one that failed can have
// reached the service.
type wire struct {
	host string
	conn net.Conn
	in   *bufio.Reader
	// dials counts the connections there were.
	dials int
}

// answerTime is how long an answer may take.
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
	// errUnsent says that nothing has left: the request cannot have arrived.
	errUnsent = errors.New("there is no connection")
)

// do makes a request. Any error but errUnsent leaves its fate unknown.
func (w *wire) do(method, path, media, key string, body []byte) (status int, answer []byte, err error) {
	if w.conn == nil {
		dialer := net.Dialer{Timeout: 2 * time.Second} // what is begun outlives every context
		if w.conn, err = dialer.Dial("tcp", w.host); err != nil {
			w.conn = nil
			return 0, nil, fmt.Errorf("%w: %w", errUnsent, err)
		}
		w.in = bufio.NewReaderSize(w.conn, 32<<10)
		w.dials++
	}
	status, answer, err = w.exchange(method, path, media, key, body)
	if err != nil {
		w.close()
	}
	return status, answer, err
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
	_ = w.conn.SetDeadline(time.Now().Add(answerTime)) // the write fails too if this does
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }() // it is read to its end
	var answer bytes.Buffer
	if _, err := io.Copy(&answer, response.Body); err != nil {
		return 0, nil, err
	}
	if response.Close {
		w.close()
	}
	return response.StatusCode, answer.Bytes(), nil
}

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.Close() // nothing is written that it could lose
		w.conn = nil
	}
}
