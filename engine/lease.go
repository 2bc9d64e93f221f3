package engine

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// lease is an entry being somebody's for a while. It lives in memory alone and
// by the monotonic clock: a restart frees all of them. Its queue stays pinned.
//
// Under the queue's lock it is found by its outstanding; until and index are
// the leases' own, under theirs, which is taken second.
type lease struct {
	queue    *queue
	sequence uint64
	number   uint64 // among all leases of this run
	until    time.Time
	index    int // in the heap; -1 once it was taken out
}

// leases are all there are, by when they end.
type leases struct {
	max  int
	made atomic.Uint64

	mu     sync.Mutex
	heap   leaseHeap
	making int // reserved, and not there yet
	sooner chan struct{}
}

func newLeases(limit int) *leases { return &leases{max: limit, sooner: make(chan struct{}, 1)} }

// reserve makes room for n more, which release gives back.
func (l *leases) reserve(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.heap)+l.making+n <= l.max {
		l.making += n
		return nil
	}
	err := messaging.Errorf(messaging.CodeTooManyRequests, "%d messages are under a lease, which is as many as there may be: acknowledge some, or let their leases run out", len(l.heap))
	err.RetryAfter = time.Second
	return err
}

func (l *leases) release(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.making -= n
}

func (l *leases) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heap)
}

func (l *leases) add(x *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heap.Push(&l.heap, x)
	l.wakeLocked(x)
}

// drop takes a lease out; false says that it is out already, because its time
// is over.
func (l *leases) drop(x *lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.index < 0 {
		return false
	}
	heap.Remove(&l.heap, x.index)
	return true
}

// extend moves the end of a lease; false says that it has ended.
func (l *leases) extend(x *lease, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.index < 0 {
		return false
	}
	x.until = until
	heap.Fix(&l.heap, x.index)
	l.wakeLocked(x)
	return true
}

// wakeLocked tells whoever ends leases when one ends first.
func (l *leases) wakeLocked(x *lease) {
	if x.index == 0 {
		select {
		case l.sooner <- struct{}{}:
		default:
		}
	}
}

// ended takes out up to a page of those that are over at a time, and says when
// the next one is.
func (l *leases) ended(now time.Time) (over []*lease, next time.Time) {
	const page = 1024
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.heap) > 0 && len(over) < page && !l.heap[0].until.After(now) {
		if x, ok := heap.Pop(&l.heap).(*lease); ok {
			over = append(over, x)
		}
	}
	if len(l.heap) > 0 {
		next = l.heap[0].until
	}
	return over, next
}

// leaseHeap implements [heap.Interface].
type leaseHeap []*lease

// Len implements [heap.Interface].
func (h *leaseHeap) Len() int { return len(*h) }

// Less implements [heap.Interface].
func (h *leaseHeap) Less(i, j int) bool { return (*h)[i].until.Before((*h)[j].until) }

// Swap implements [heap.Interface].
func (h *leaseHeap) Swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements [heap.Interface].
func (h *leaseHeap) Push(x any) {
	if l, ok := x.(*lease); ok {
		l.index = len(*h)
		*h = append(*h, l)
	}
}

// Pop implements [heap.Interface].
func (h *leaseHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	x.index = -1
	(*h)[last] = nil
	*h = (*h)[:last]
	return x
}

// maxGranting bounds the bodies of messages that wait for the disk until they
// are handed out under a lease, in bytes; one reader is always let in.
const maxGranting = 64 << 20

func bodies(found []handed) (n int64) {
	for i := range found {
		n += int64(len(found[i].message.Body))
	}
	return n
}

// grant counts messages as delivered once more, durably, and makes the leases
// under which they are handed out.
func (e *Engine) grant(q *queue, found []handed, term time.Duration) ([]handed, error) {
	if err := e.leases.reserve(len(found)); err != nil {
		q.putBack(found)
		return nil, err
	}
	defer e.leases.release(len(found))
	bytes := bodies(found)
	defer e.granting.Add(-bytes)
	if all := e.granting.Add(bytes); all > maxGranting && all > bytes {
		q.putBack(found)
		err := messaging.Errorf(messaging.CodeOverloaded, "too many readers wait for the disk: try again in a second")
		err.RetryAfter = time.Second
		return nil, err
	}
	c := &deliveryChange{queue: q, found: found, by: 1}
	if err := e.log.Commit(c); err != nil {
		q.putBack(found)
		return nil, err
	}
	until := time.Now().Add(term)
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := found[:0]
	for _, h := range found {
		seq := h.message.Position.Sequence
		if q.out[seq] != h.out {
			continue // evicted, cleared or too old by now
		}
		x := &lease{queue: q, sequence: seq, number: e.leases.made.Add(1), until: until}
		h.out.lease = x
		e.queues.pinAgain(q)
		e.leases.add(x)
		h.message.Deliveries = h.out.entry.Deliveries
		h.message.Receipt = receipt{
			nonce: e.nonce, user: userTag(q.user), priority: h.out.priority, sequence: seq, deliveries: h.message.Deliveries, lease: x.number,
		}.encode()
		kept = append(kept, h)
	}
	return kept, nil
}

// settleLeases ends a handout under leases. One that did not arrive was no
// delivery.
func (e *Engine) settleLeases(q *queue, found []handed, delivered bool) {
	if delivered {
		e.queues.unpin(q) // the leases have pins of their own
		return
	}
	q.mu.Lock()
	mine := found[:0]
	for _, h := range found {
		if seq := h.message.Position.Sequence; q.out[seq] == h.out && h.out.lease != nil {
			e.endLease(h.out.lease)
			h.out.lease = nil
			mine = append(mine, h)
		}
	}
	q.mu.Unlock()
	c := &deliveryChange{queue: q, found: mine, by: -1, published: func() {
		q.putBack(mine)
		e.queues.unpin(q)
	}}
	if err := e.log.Enqueue(c); err != nil {
		c.published() // the service stops; the count on disk is one too high
	}
}

// endLease forgets a lease, and its hold on its queue. Nil is none. Where its
// time is over, runOut lets go of the queue.
func (e *Engine) endLease(x *lease) {
	if x != nil && e.leases.drop(x) {
		e.queues.unpin(x.queue)
	}
}

// deliveryChange is the count of deliveries of messages that someone has.
type deliveryChange struct {
	queue     *queue
	found     []handed
	by        int
	published func()
}

// Records implements [wal.Change]: there are none.
func (c *deliveryChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *deliveryChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.found {
		h := &c.found[i]
		seq := h.message.Position.Sequence
		if q.out[seq] != h.out {
			continue
		}
		h.out.entry.Deliveries += uint32(c.by) //nolint:gosec // one more or one less
		tx.PutEntry(storage.Queued, q.user, h.out.priority, seq, h.out.entry)
	}
}

// Published implements [wal.Change].
func (c *deliveryChange) Published() {
	if c.published != nil {
		c.published()
	}
}

// Leases ends the leases whose time is over, until the context ends: each
// message comes back to its place, or becomes a dead letter.
func (e *Engine) Leases(ctx context.Context) error {
	for {
		over, next := e.leases.ended(time.Now())
		for _, x := range over {
			e.runOut(x)
		}
		if len(over) > 0 {
			continue
		}
		if !sleepUntil(ctx, next, e.leases.sooner) {
			return nil
		}
	}
}

// sleepUntil returns at a time (the zero time never comes) or when it is told
// that there is something sooner; false says that the context has ended.
func sleepUntil(ctx context.Context, at time.Time, sooner <-chan struct{}) bool {
	var alarm <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-alarm:
	case <-sooner:
	}
	return true
}

// runOut ends a lease that was not acknowledged in time.
func (e *Engine) runOut(x *lease) {
	q := x.queue
	defer e.queues.unpin(q)
	q.mu.Lock()
	defer q.mu.Unlock()
	if o := q.out[x.sequence]; o != nil && o.lease == x {
		e.counters.redelivered.Add(1)
		e.freeLocked(q, x.sequence, o)
	}
}

// freeLocked ends the hold of a reader on a message without its having left the
// queue: it comes back to its place, unless it is past its time or was
// delivered too often. The caller has taken the lease out.
func (e *Engine) freeLocked(q *queue, seq uint64, o *outstanding) {
	o.lease = nil
	doomed := []handed{{out: o, message: messaging.Message{Position: messaging.Position{Sequence: seq}}}}
	switch {
	case e.config.MaxDeliveries > 0 && o.entry.Deliveries >= e.config.MaxDeliveries:
		o.doomed = true
		e.queues.pinAgain(q)
		e.bury(q, doomed)
	case o.entry.Expires != 0 && o.entry.Expires <= e.now().UnixMilli():
		o.doomed = true
		e.queues.pinAgain(q)
		e.expireChange(q, doomed)
	default:
		q.giveBackLocked(seq)
	}
}
