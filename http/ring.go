package http

// ring is a place in a doubly linked ring of connections. The zero value is in no ring.
// The owner of a ring holds its lock for all methods.
type ring struct {
	prev, next *ring
	conn       *conn // nil for the head of a ring
}

// initHead makes r the head of an empty ring.
func (r *ring) initHead() { r.prev, r.next = r, r }

// link adds r at the end of the ring of head, after it leaves its present ring.
func (r *ring) link(head *ring) {
	r.unlink()
	r.prev, r.next = head.prev, head
	r.prev.next, r.next.prev = r, r
}

// unlink removes r from its ring. It returns false if r is in none.
func (r *ring) unlink() bool {
	if r.next == nil {
		return false
	}
	r.prev.next, r.next.prev = r.next, r.prev
	r.prev, r.next = nil, nil
	return true
}

// first returns the connection that has been in the ring of the head r longest, or nil if
// the ring is empty.
func (r *ring) first() *conn { return r.next.conn }
