package http

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// streamServer serves one streamed response. sent receives what onSent was told.
func streamServer(t *testing.T, timeout time.Duration, stream func(w *streamWriter) error) (url string, sent chan bool) {
	t.Helper()
	s := New(Config{RequestTimeout: timeout})
	sent = make(chan bool, 1)
	served := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.write(w, &request{Request: r}, response{contentType: "text/plain", stream: stream, onSent: func(delivered bool) { sent <- delivered }}) //nolint:contextcheck // the request has it
	}))
	served.Start()
	t.Cleanup(served.Close)
	return served.URL, sent
}

func TestAStreamArrivesPieceByPiece(t *testing.T) {
	next := make(chan struct{})
	url, sent := streamServer(t, time.Minute, func(w *streamWriter) error {
		for range 3 {
			if _, err := io.WriteString(w, "piece\n"); err != nil {
				return err
			}
			if err := w.Flush(); err != nil {
				return err
			}
			<-next // the client has read the piece
		}
		return nil
	})
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := body.ReadString('\n'); line != "piece\n" || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		next <- struct{}{}
	}
	if _, err := body.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last piece: %v", err)
	}
	if !<-sent {
		t.Error("the handler was told that the response was not sent")
	}
}

// TestAStreamThatFailsIsNotComplete: the client must not take a part for the whole.
func TestAStreamThatFailsIsNotComplete(t *testing.T) {
	url, sent := streamServer(t, time.Minute, func(w *streamWriter) error {
		_, err := io.WriteString(w, "a part")
		return errors.Join(err, errors.New("the rest cannot be read"))
	})
	resp, err := http.Get(url)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the client got a complete body")
	}
	if <-sent {
		t.Error("the handler was told that the response was sent")
	}
}

// TestAStreamEndsWhenItsClientStopsReading: a write that waits longer than the timeout
// ends the stream.
func TestAStreamEndsWhenItsClientStopsReading(t *testing.T) {
	ended := make(chan error, 1)
	url, sent := streamServer(t, 50*time.Millisecond, func(w *streamWriter) (err error) {
		piece := strings.Repeat("x", 1<<20)
		for range 1000 {
			if _, err = io.WriteString(w, piece); err != nil {
				break
			}
		}
		ended <- err
		return err
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a gigabyte was written to a client that reads nothing")
	}
	if <-sent {
		t.Error("the handler was told that the response was sent")
	}
}
