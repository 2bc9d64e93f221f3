package http

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// crowded gives places of which one too many is taken, and the context of the
// connection that came last.
func crowded(t *testing.T) (*places, context.Context) {
	t.Helper()
	p := newPlaces(2)
	for range 2 {
		p.slots <- struct{}{}
		p.opened()
	}
	last := p.context(t.Context(), idleConn(t))
	p.slots <- struct{}{}
	p.opened()
	return p, last
}

// idleConn is a connection that nobody is at the other end of.
func idleConn(t *testing.T) *conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _, _ = here.Close(), there.Close() })
	return newConn(here)
}

func asking(ctx context.Context, path string) *http.Request {
	return httptest.NewRequest(http.MethodGet, path, http.NoBody).WithContext(ctx)
}

func TestRequestOverTheLimitWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, last := crowded(t)
		if err := p.admit(asking(t.Context(), "/api/stats")); err != nil {
			t.Errorf("on an ordinary place: %v", err)
		}
		if err := p.admit(asking(last, "/health/ready")); err != nil {
			t.Errorf("for health: %v", err)
		}
		began := time.Now()
		time.AfterFunc(time.Second, func() { p.ended(idleConn(t)) })
		if err := p.admit(asking(last, "/api/stats")); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %s, want a place after a second", err, time.Since(began))
		}
	})
}

func TestRequestOverTheLimitDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, last := crowded(t)
		began := time.Now()
		e, ok := errors.AsType[*messaging.Error](p.admit(asking(last, "/api/stats")))
		if !ok || e.Code != messaging.CodeOverloaded || e.RetryAfter == 0 || time.Since(began) != placeWait {
			t.Errorf("%v after %s", e, time.Since(began))
		}
		gone, leave := context.WithCancel(last)
		time.AfterFunc(time.Second, leave)
		began = time.Now()
		if err := p.admit(asking(gone, "/api/stats")); err == nil || time.Since(began) != time.Second {
			t.Errorf("the caller has gone: %v after %s", err, time.Since(began))
		}
	})
}
