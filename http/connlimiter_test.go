package http

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// fullLimiter returns a limiter with one connection over its limit, and the context of
// that connection.
func fullLimiter(t *testing.T) (*connLimiter, context.Context) {
	t.Helper()
	cl := newConnLimiter(2, 0, slog.New(slog.DiscardHandler))
	for range 2 {
		cl.slots <- struct{}{}
		cl.opened(idleConn(t))
	}
	last := cl.context(t.Context(), idleConn(t))
	cl.slots <- struct{}{}
	cl.opened(idleConn(t))
	return cl, last
}

// idleConn returns a connection whose other end neither reads nor writes.
func idleConn(t *testing.T) *conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _, _ = here.Close(), there.Close() })
	return newConn(here)
}

func requestOn(ctx context.Context, path string) *http.Request {
	return httptest.NewRequest(http.MethodGet, path, http.NoBody).WithContext(ctx)
}

func TestRequestOverTheLimitWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, last := fullLimiter(t)
		if err := cl.admit(requestOn(t.Context(), "/api/stats")); err != nil {
			t.Errorf("within the limit: %v", err)
		}
		if err := cl.admit(requestOn(last, "/health/ready")); err != nil {
			t.Errorf("for health: %v", err)
		}
		began := time.Now()
		time.AfterFunc(time.Second, func() { cl.ended(idleConn(t)) })
		if err := cl.admit(requestOn(last, "/api/stats")); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %s, want a slot after a second", err, time.Since(began))
		}
	})
}

func TestRequestOverTheLimitDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, last := fullLimiter(t)
		began := time.Now()
		e, ok := errors.AsType[*messaging.Error](cl.admit(requestOn(last, "/api/stats")))
		if !ok || e.Code != messaging.CodeOverloaded || e.RetryAfter == 0 || time.Since(began) != connWait {
			t.Errorf("%v after %s", e, time.Since(began))
		}
		gone, leave := context.WithCancel(last)
		time.AfterFunc(time.Second, leave)
		began = time.Now()
		if err := cl.admit(requestOn(gone, "/api/stats")); err == nil || time.Since(began) != time.Second {
			t.Errorf("with a cancelled request: %v after %s", err, time.Since(began))
		}
	})
}
