package http

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/limits"
)

const (
	// HealthConnections is the number of connections accepted over the limit. They keep health
	// checks available when all other connections are in use.
	HealthConnections = 64
	// connWait is the longest wait of a request on a connection over the limit.
	connWait = 5 * time.Second
	// idleCloses is the largest number of idle connections that are closed for one
	// new connection.
	idleCloses = 2
)

// connLimiter bounds the number of connections. Near the limit, it closes the connections
// that have been idle longest. Over the limit, requests other than health checks wait for
// another connection to end. When the connections for health checks are in use too, new
// connections wait in the kernel.
//
// An unauthenticated connection has had no request of an accepted caller yet. Such
// connections have a limit of their own: a new one closes the one that has been open
// longest. So a client without a token cannot keep connections from clients with one.
type connLimiter struct {
	max   int
	slots chan struct{}
	// maxUnknown is the limit of unauthenticated connections; 0 means none.
	maxUnknown int
	logger     *slog.Logger

	mu      sync.Mutex
	open    int
	closing int           // of open: the limiter closes them, and they have not ended yet
	idle    ring          // of idle connections, in the order in which they became idle
	freed   chan struct{} // closed and replaced when a connection ends
	// unknown is the ring of unauthenticated connections, in the order in which they
	// were opened. unknowns is their number.
	unknown  ring
	unknowns int
	flood    flood
}

// flood is the state of an excess of unauthenticated connections.
type flood struct {
	active bool
	closed uint64    // connections that were closed in it
	logged time.Time // when a begin was logged last
	quiet  bool      // this one is not logged
}

// floodPause is the shortest time between two floods that are logged.
const floodPause = time.Minute

func newConnLimiter(limit, maxUnknown int, logger *slog.Logger) *connLimiter {
	cl := &connLimiter{
		max: limit, slots: make(chan struct{}, limit+HealthConnections), freed: make(chan struct{}),
		maxUnknown: maxUnknown, logger: logger,
	}
	cl.idle.initHead()
	cl.unknown.initHead()
	return cl
}

func (cl *connLimiter) count() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.open
}

// heldLocked returns the number of open connections that will stay open. Those that are
// being closed do not count: otherwise a flood, whose connections end a moment after their
// close, would close idle connections of accepted callers, and make others wait.
func (cl *connLimiter) heldLocked() int { return cl.open - cl.closing }

// closeLocked closes a connection. The server's read fails, and it ends the connection.
func (cl *connLimiter) closeLocked(c *conn) {
	c.closing = true
	cl.closing++
	go func() { _ = c.Close() }()
}

// near returns the number of connections above which idle ones are closed.
func (cl *connLimiter) near() int { return cl.max - cl.max/32 }

// listener returns a listener that is bounded by the limiter.
// secure is true if TLS is spoken over its connections.
func (cl *connLimiter) listener(l net.Listener, secure bool) net.Listener {
	return &boundedListener{Listener: l, limiter: cl, secure: secure, closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	limiter *connLimiter
	secure  bool
	once    sync.Once
	closed  chan struct{}
}

// Accept waits for a free slot before it accepts a connection from the kernel.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.limiter.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	accepted, err := l.Listener.Accept()
	if err != nil {
		<-l.limiter.slots
		return nil, err
	}
	l.awaitUnknown()
	c := newConn(accepted)
	c.secure = l.secure
	return c, nil
}

// unknownGrace is the shortest time that an unauthenticated connection has for its first
// request. Without it a flood would also close connections of clients with a token, and
// health checks, before their first request is read.
const unknownGrace = 200 * time.Millisecond

// awaitUnknown waits until one more unauthenticated connection does not close one that is
// younger than unknownGrace. It bounds the rate of a flood, to the limit in each
// unknownGrace; above that rate, connections wait in the kernel.
func (l *boundedListener) awaitUnknown() {
	for {
		wait := l.limiter.unknownWait()
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(min(wait, unknownGrace/10)) // one may end before
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return
		}
	}
}

// Close closes the listener and ends a waiting Accept.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// state is the ConnState hook of the server. It tracks open and idle connections.
func (cl *connLimiter) state(of net.Conn, state http.ConnState) {
	c, ok := connUnder(of)
	if !ok {
		return // of another listener than [connLimiter.listener]
	}
	switch state {
	case http.StateNew:
		cl.opened(c)
	case http.StateActive:
		cl.mu.Lock()
		c.idle.unlink()
		cl.mu.Unlock()
	case http.StateIdle:
		c.closeNotifyStopped.Store(false)
		cl.mu.Lock()
		c.idle.link(&cl.idle)
		cl.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		cl.ended(c)
	}
}

// opened counts a new connection. It closes connections that have been idle longest near
// the limit, and the oldest unauthenticated one above their limit.
func (cl *connLimiter) opened(c *conn) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.open++
	cl.limitUnknownLocked(c)
	for range idleCloses {
		c := cl.idle.first()
		if cl.heldLocked() <= cl.near() || c == nil {
			return
		}
		c.idle.unlink()
		cl.closeLocked(c)
	}
}

// limitUnknownLocked counts a new connection as unauthenticated.
func (cl *connLimiter) limitUnknownLocked(c *conn) {
	if cl.maxUnknown == 0 {
		return
	}
	c.unknown.link(&cl.unknown)
	cl.unknowns++
	if cl.unknowns <= cl.maxUnknown {
		return
	}
	oldest := cl.unknown.first()
	cl.forgetUnknownLocked(oldest)
	if !oldest.closing {
		cl.closeLocked(oldest)
	}
	f := &cl.flood
	f.closed++
	if !f.active {
		now := time.Now()
		f.active, f.quiet = true, now.Sub(f.logged) < floodPause
		if !f.quiet {
			f.logged = now
			cl.logger.Warn("connections without an accepted request have reached their limit: the oldest are closed", "max_unauthenticated", cl.maxUnknown)
		}
	}
}

// unknownWait returns how long the oldest unauthenticated connection keeps the last place.
func (cl *connLimiter) unknownWait() time.Duration {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.maxUnknown == 0 || cl.unknowns < cl.maxUnknown {
		return 0
	}
	return unknownGrace - time.Since(cl.unknown.first().began)
}

// forgetUnknownLocked ends the count of a connection as unauthenticated.
func (cl *connLimiter) forgetUnknownLocked(c *conn) {
	if !c.unknown.unlink() {
		return
	}
	cl.unknowns--
	if f := &cl.flood; f.active && cl.unknowns <= cl.maxUnknown/2 {
		if !f.quiet {
			cl.logger.Info("connections without an accepted request are below half of their limit again", "closed", f.closed)
			f.closed = 0
		}
		f.active = false
	}
}

// accept records that the caller of a request was accepted. The connection counts for the
// caller's share. It returns a too_many_requests error if that is at its limit of
// connections.
func (cl *connLimiter) accept(r *http.Request, share *limits.Share) error {
	c := connOf(r)
	if c == nil || (c.accepted.Load() && share == c.share.Load()) {
		return nil
	}
	c.accepted.Store(true)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.forgetUnknownLocked(c)
	if former := c.share.Swap(nil); former != nil {
		former.Disconnect()
	}
	if err := share.Connect(); err != nil {
		return err
	}
	c.share.Store(share)
	return nil
}

// unauthenticated returns the number of unauthenticated connections.
func (cl *connLimiter) unauthenticated() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.unknowns
}

func (cl *connLimiter) ended(c *conn) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	c.idle.unlink()
	cl.forgetUnknownLocked(c)
	c.share.Swap(nil).Disconnect()
	cl.open--
	if c.closing {
		cl.closing--
	}
	close(cl.freed)
	cl.freed = make(chan struct{})
	<-cl.slots
}

// context is the ConnContext hook of the server. It stores the connection in the context
// of its requests, and sets its overLimit.
func (cl *connLimiter) context(ctx context.Context, of net.Conn) context.Context {
	c, ok := connUnder(of)
	if !ok {
		return ctx
	}
	cl.mu.Lock()
	c.overLimit = cl.heldLocked() >= cl.max
	cl.mu.Unlock()
	return context.WithValue(ctx, connKey{}, c)
}

// admit returns nil for a request on a connection within the limit. On a connection over
// the limit, it waits until the number of connections is within the limit again.
func (cl *connLimiter) admit(r *http.Request) error {
	if c := connOf(r); c == nil || !c.overLimit || strings.HasPrefix(r.URL.Path, "/health") {
		return nil
	}
	timeout := time.NewTimer(connWait)
	defer timeout.Stop()
	for {
		cl.mu.Lock()
		ok, freed := cl.heldLocked() <= cl.max, cl.freed
		cl.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-freed:
		case <-r.Context().Done():
			return messaging.Errorf(messaging.CodeOverloaded, "the caller closed the connection")
		case <-timeout.C:
			err := messaging.Errorf(messaging.CodeOverloaded, "all connections are in use: try again in a second")
			err.RetryAfter = time.Second
			return err
		}
	}
}
