package http

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stayafrica/messaging/limits"
)

// conn is a connection of the server. It avoids two costs of net/http per request, which
// can exceed the cost of the request itself: setting deadlines (see [deadline]), and
// watching for the client to close the connection.
//
// net/http watches with a read of one byte in a separate goroutine, from the end of a
// request's body to the end of its response. A call that stores messages cannot be
// cancelled, so it does not need the watch: from [stopCloseNotify] to the end of the
// response, such a read returns 0 bytes at once. Calls without a body, such as takes and
// long polls, are watched.
type conn struct {
	net.Conn
	reads, writes deadline
	// closeNotifyStopped is true while the current request does not need to know
	// whether its client closes the connection.
	closeNotifyStopped atomic.Bool
	raw                syscall.RawConn // of the socket; nil if there is none
	secure             bool            // TLS is spoken over it
	began              time.Time       // of the connection
	// overLimit is true if the connection was accepted over the limit. It is set
	// before the first request.
	overLimit bool
	// closing is true if connLimiter closes it; its mu guards it.
	closing bool
	// idle and unknown are the places in the rings of connLimiter, whose mu guards them.
	idle, unknown ring
	// accepted is true after the first request of an accepted caller. share is the
	// share of the caller of the last one, for which the connection counts.
	accepted atomic.Bool
	share    atomic.Pointer[limits.Share]
}

func newConn(accepted net.Conn) *conn {
	c := &conn{Conn: accepted, began: time.Now()}
	c.idle.conn, c.unknown.conn = c, c
	c.reads.set, c.writes.set = accepted.SetReadDeadline, accepted.SetWriteDeadline
	if socket, ok := accepted.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn() // an error means that the connection is closed
	}
	return c
}

// connUnder returns the connection of the server under TLS, or without it.
func connUnder(of net.Conn) (*conn, bool) {
	if secure, ok := of.(*tls.Conn); ok {
		of = secure.NetConn()
	}
	c, ok := of.(*conn)
	return c, ok
}

// connKey is the context key of a request's connection.
type connKey struct{}

// connOf returns the connection of a request, or nil if it is not a [conn].
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// stopCloseNotify stops the watch of the connection until the end of the response. The
// caller calls it before it reads the body. It does nothing for a chunked body, because
// net/http may read the framing of chunks in steps of one byte.
func stopCloseNotify(r *http.Request) {
	if c := connOf(r); c != nil && r.ContentLength > 0 {
		c.closeNotifyStopped.Store(true)
	}
}

// Read implements [net.Conn]. After stopCloseNotify, only the read that watches has a
// buffer of one byte: for a body of known length and the bytes after it, the server
// reads with a larger buffer.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 1 && c.closeNotifyStopped.Load() {
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

// CloseWrite closes the sending side of the connection. net/http calls it before it
// closes a connection with an unread rest of a request.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// ended reports whether the client has closed its sending side. Such a client may have
// left, or it may wait for the response to its last request; the two cannot be told
// apart. ended peeks at the socket without reading, so a concurrent read is not
// disturbed.
func (c *conn) ended() bool {
	if c.raw == nil {
		return false
	}
	n := -1
	var first [tlsHeader]byte
	err := c.raw.Control(func(fd uintptr) {
		var peekErr error
		if n, _, peekErr = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT); peekErr != nil {
			n = -1 // no bytes have arrived, or a write will return the error
		}
	})
	return err != nil || n == 0 || (c.secure && n == tlsHeader && isAlert(first))
}

// tlsHeader is the length of the header of a TLS record (RFC 8446, section 5.1).
const tlsHeader = 5

// isAlert reports whether a TLS record is an alert, with which a client closes its side. In
// TLS 1.3 its type is encrypted, but not its length: two bytes, the type, and a tag of 16
// bytes. A request is longer.
func isAlert(header [tlsHeader]byte) bool {
	const alert, applicationData, encryptedAlert = 21, 23, 2 + 1 + 16
	length := int(header[3])<<8 | int(header[4])
	return header[0] == alert || (header[0] == applicationData && length == encryptedAlert)
}

// deadline is the read or write deadline of a connection. It reduces the number of calls
// to the runtime's timers: net/http sets a deadline several times per request, nearly
// always to a later time. deadline sets the connection's deadline only if the new time
// is earlier. If the connection's deadline passes and the due time is later, the reader
// or writer sets the connection's deadline again and continues.
//
// Invariant: the connection's deadline (armed) is never later than due.
type deadline struct {
	set func(t time.Time) error

	mu    sync.Mutex
	due   time.Time // zero for none
	armed time.Time // the deadline that is set on the connection
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

// over reports whether the deadline is due. It is called after the connection's deadline
// has passed. If the deadline is not due, over sets the connection's deadline to the due
// time.
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
