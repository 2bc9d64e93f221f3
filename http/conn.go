package http

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection of the server. It saves two things that net/http does for
// every request and that cost more than many a request itself: moving deadlines
// (see [deadline]), and watching for the client to leave.
//
// net/http watches by a read of one byte, in a goroutine of its own, from the end
// of a request's body to that of its answer. What stores something cannot be
// called back, so nobody asks whether its client is still there: from
// [conn.unwatch] to the end of the answer such a read is answered with nothing,
// at once. Reads, takes and long polls are watched as ever.
type conn struct {
	net.Conn
	reads, writes deadline
	// unwatched says that the request that is being answered does not ask whether
	// its client leaves.
	unwatched atomic.Bool
	// reserved says that it came over the limit of places. It is set before the
	// first request.
	reserved bool
	// prev and next are the places': the ring of idle connections that it is in.
	prev, next *conn
}

func newConn(accepted net.Conn) *conn {
	c := &conn{Conn: accepted}
	c.reads.set, c.writes.set = accepted.SetReadDeadline, accepted.SetWriteDeadline
	return c
}

// connKey is under what requests find their connection.
type connKey struct{}

// connOf gives a request's connection; nil where it is not one of ours.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// unwatch is called before the body of a request is read that does not ask
// whether its client leaves. A body in chunks stays watched: its framing is read
// in steps that may be of one byte.
func unwatch(r *http.Request) {
	if c := connOf(r); c != nil && r.ContentLength > 0 {
		c.unwatched.Store(true)
	}
}

// Read implements [net.Conn]. No other read than the one that watches has room
// for one byte while a body of known length is read, and what follows it: the
// server's buffer is as large as it can be then.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 1 && c.unwatched.Load() {
		return 0, nil
	}
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.reads.over() {
			return n, err
		}
	}
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (written int, err error) {
	for {
		n, err := c.Conn.Write(p[written:])
		written += n
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.writes.over() {
			return written, err
		}
	}
}

// SetReadDeadline implements [net.Conn].
func (c *conn) SetReadDeadline(t time.Time) error { return c.reads.to(t) }

// SetWriteDeadline implements [net.Conn].
func (c *conn) SetWriteDeadline(t time.Time) error { return c.writes.to(t) }

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error { return errors.Join(c.reads.to(t), c.writes.to(t)) }

// CloseWrite tells the client that nothing more comes; net/http does so before
// it closes a connection whose request it has not read to its end.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// link puts the connection at the end of a ring; unlink takes it out of the one
// that it is in. Both are for who has the ring's lock.
func (c *conn) link(ring *conn) {
	c.unlink()
	c.prev, c.next = ring.prev, ring
	c.prev.next, c.next.prev = c, c
}

func (c *conn) unlink() {
	if c.next == nil {
		return
	}
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
}

// deadline is one of a connection's, which is moved seldom. net/http sets it
// several times a request, nearly always to a later time than before, and each
// time a timer of the runtime has to move. Here it moves only to come nearer.
// When one strikes that was to be moved since, who reads or writes moves it then
// and goes on.
//
// Invariant: what the connection has is never later than what is due.
type deadline struct {
	set func(t time.Time) error

	mu    sync.Mutex
	due   time.Time // zero for none
	armed time.Time // what the connection has
}

// to sets the deadline.
func (d *deadline) to(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due = t
	if !d.armed.IsZero() && (t.IsZero() || !t.Before(d.armed)) {
		return nil
	}
	if d.armed.IsZero() && t.IsZero() {
		return nil
	}
	return d.armLocked()
}

// over says, after the connection's deadline has struck, whether it was due. If
// not, the connection has the one that is.
func (d *deadline) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.due.IsZero() && !time.Now().Before(d.due) {
		return true
	}
	return d.armLocked() != nil
}

func (d *deadline) armLocked() error {
	d.armed = d.due
	return d.set(d.due)
}
