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

// A flood of unauthenticated connections closes its own oldest ones. It closes no idle
// connection of an accepted caller, also while its own have not ended yet.
func TestFloodClosesNoIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, accepted, flood = 32, 16, 100
		cl := newConnLimiter(limit, 4, slog.New(slog.DiscardHandler))
		cl.slots = make(chan struct{}, limit+flood)
		var callers []*conn
		for range accepted {
			c := idleConn(t)
			cl.opened(c)
			if err := cl.accept(requestOn(cl.context(t.Context(), c), "/api/stats"), nil); err != nil {
				t.Fatal(err)
			}
			cl.state(c, http.StateIdle)
			callers = append(callers, c)
		}
		for range flood { // none of them ends in this test
			cl.opened(idleConn(t))
		}
		synctest.Wait()
		for i, c := range callers {
			if c.closing {
				t.Errorf("the idle connection %d of an accepted caller is closed", i)
			}
		}
		if n := cl.unauthenticated(); n != 4 {
			t.Errorf("%d unauthenticated connections stay, want 4", n)
		}
		if cl.context(t.Context(), callers[0]); callers[0].overLimit {
			t.Error("connections that are being closed count for the limit")
		}
	})
}

// An unauthenticated connection keeps its place for unknownGrace, so the next one above the
// limit waits that long, or until one leaves.
func TestUnauthenticatedConnectionHasTimeForItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newConnLimiter(8, 2, slog.New(slog.DiscardHandler))
		l := &boundedListener{limiter: cl, closed: make(chan struct{})}
		began := time.Now()
		first := idleConn(t)
		for _, c := range []*conn{first, idleConn(t)} {
			l.awaitUnknown()
			cl.opened(c)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("within the limit a connection waits for %s", waited)
		}
		l.awaitUnknown()
		if waited := time.Since(began); waited != unknownGrace {
			t.Errorf("above the limit a connection waits for %s, want %s", waited, unknownGrace)
		}
		cl.slots <- struct{}{}
		cl.ended(first)
		began = time.Now()
		if l.awaitUnknown(); time.Since(began) != 0 {
			t.Error("a connection waits though one has left")
		}
		third := idleConn(t)
		cl.opened(third)
		close(l.closed)
		if l.awaitUnknown(); time.Since(began) != 0 {
			t.Error("a connection waits for a closed listener")
		}
	})
}
