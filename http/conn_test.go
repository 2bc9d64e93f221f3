package http

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// counted counts the calls of SetReadDeadline.
type counted struct {
	net.Conn
	set int
}

func (c *counted) SetReadDeadline(t time.Time) error {
	c.set++
	return c.Conn.SetReadDeadline(t)
}

func TestDeadlineMovesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		below := &counted{Conn: here}
		c := newConn(below)
		buffer := make([]byte, 2)
		for range 1000 { // as a server does for each request
			for _, d := range []time.Duration{10 * time.Second, 30 * time.Second, 0, 2 * time.Minute} {
				at := time.Now().Add(d)
				if d == 0 {
					at = time.Time{}
				}
				if err := c.SetReadDeadline(at); err != nil {
					t.Fatal(err)
				}
			}
			go func() { _, _ = there.Write([]byte("x")) }()
			if _, err := io.ReadFull(c, buffer[:1]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		// The deadline is two minutes after the last call. The connection's deadline
		// is set again each time it passes before that.
		if below.set > 20 {
			t.Errorf("the deadline was set %d times in 1,000 requests and 100 seconds", below.set)
		}
	})
}

func TestDeadlineStrikesWhenItIsDue(t *testing.T) {
	for name, one := range map[string]struct {
		set  []time.Duration // deadlines in order, relative to the start; 0 for none
		want time.Duration
	}{
		"set once":              {[]time.Duration{3 * time.Second}, 3 * time.Second},
		"moved away":            {[]time.Duration{time.Second, 5 * time.Second}, 5 * time.Second},
		"moved nearer":          {[]time.Duration{5 * time.Second, time.Second}, time.Second},
		"moved away and nearer": {[]time.Duration{5 * time.Second, 9 * time.Second, 7 * time.Second}, 7 * time.Second},
		"lifted and set":        {[]time.Duration{time.Second, 0, 4 * time.Second}, 4 * time.Second},
		"in the past":           {[]time.Duration{time.Second, -time.Hour}, 0},
		"past and then moved":   {[]time.Duration{-time.Hour, 2 * time.Second}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				defer here.Close()
				defer there.Close()
				c := newConn(here)
				began := time.Now()
				for _, d := range one.set {
					at := began.Add(d)
					if d == 0 {
						at = time.Time{}
					}
					if err := c.SetDeadline(at); err != nil {
						t.Fatal(err)
					}
				}
				_, readErr := c.Read(make([]byte, 8))
				if took := time.Since(began); !errors.Is(readErr, os.ErrDeadlineExceeded) || took != one.want {
					t.Errorf("a read ended after %s with %v, want %s", took, readErr, one.want)
				}
				if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != one.want {
					t.Errorf("a write ended after %s with %v, want %s", time.Since(began), err, one.want)
				}
			})
		})
	}
}

// TestDeadlineThatComesNearerEndsARead checks that an earlier deadline ends a read in
// progress. A server ends the read that watches a connection this way, and
// [http.Server.Shutdown] relies on it.
func TestDeadlineThatComesNearerEndsARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := idleConn(t)
		ended := make(chan error, 1)
		if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the read ended with %v", err)
		}
	})
}

// TestClientIsWatchedUnlessItSends checks that a waiting handler learns that its client
// closed the connection, and that stopCloseNotify does not disturb requests with a body.
func TestClientIsWatchedUnlessItSends(t *testing.T) {
	limiter := newConnLimiter(10, 0, slog.New(slog.DiscardHandler))
	left, sent := make(chan error, 1), make(chan string, 2)
	server := &http.Server{
		ConnState: limiter.state, ConnContext: limiter.context,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				<-r.Context().Done()
				left <- r.Context().Err()
				return
			}
			stopCloseNotify(r)
			body, _ := io.ReadAll(r.Body)
			sent <- string(body)
		}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(limiter.listener(l, false)) }()
	defer server.Close()

	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	post := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
	// Pipelined requests: the next one follows a body that is not watched.
	if _, err := io.WriteString(client, post+"first"+post+"again"+"GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "again"} {
		if got := <-sent; got != want {
			t.Errorf("the handler got %q, want %q", got, want)
		}
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the context of a waiting handler did not end after its client left")
	}
}

func TestChunksStayWatched(t *testing.T) {
	c := idleConn(t)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x"))
	r = r.WithContext(newConnLimiter(1, 0, slog.New(slog.DiscardHandler)).context(t.Context(), c))
	r.ContentLength = -1
	stopCloseNotify(r)
	if c.closeNotifyStopped.Load() {
		t.Error("a body in chunks is not watched")
	}
	r.ContentLength = 1
	stopCloseNotify(r)
	if !c.closeNotifyStopped.Load() {
		t.Error("a body of known length is watched")
	}
}
