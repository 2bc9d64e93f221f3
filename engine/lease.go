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

// lease is a reader's time-limited claim on an entry. It is in memory only and uses the
// monotonic clock, so a restart ends all leases. Its queue stays pinned.
//
// Its claim refers to it, under the queue's lock. until and index belong to leases, under
// its lock, which is taken after the queue's.
type lease struct {
	queue    *queue
	sequence uint64
	number   uint64 // unique in this run
	until    time.Time
	index    int                  // in the heap; -1 after its removal
	quota    messaging.LeaseQuota // of the reader, or nil
}

// end ends the count of a lease that was removed from leases.
func (x *lease) end() {
	if x.quota != nil {
		x.quota.EndLease(1)
	}
}

// leases holds all leases, ordered by their end.
type leases struct {
	max     int
	granted atomic.Uint64

	mu       sync.Mutex
	heap     leaseHeap
	reserved int // reserved, not added yet
	changed  chan struct{}
}

func newLeases(limit int) *leases { return &leases{max: limit, changed: make(chan struct{}, 1)} }

// reserve reserves n leases; release returns them.
func (l *leases) reserve(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.heap)+l.reserved+n <= l.max {
		l.reserved += n
		return nil
	}
	err := messaging.Errorf(messaging.CodeTooManyRequests, "%d messages are leased, which is the limit: acknowledge some, or let their leases expire", len(l.heap))
	err.RetryAfter = time.Second
	return err
}

func (l *leases) release(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved -= n
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

// drop removes a lease. It returns false if the lease was removed before, because its time
// was over.
func (l *leases) drop(x *lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.index < 0 {
		return false
	}
	heap.Remove(&l.heap, x.index)
	x.end()
	return true
}

// extend moves the end of a lease. It returns false if the lease has ended.
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

// wakeLocked wakes the service that ends leases if this lease is now the first to end.
func (l *leases) wakeLocked(x *lease) {
	if x.index == 0 {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// ended removes up to a page of leases that are over at now, and returns when the next one
// ends.
func (l *leases) ended(now time.Time) (over []*lease, next time.Time) {
	const page = 1024
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.heap) > 0 && len(over) < page && !l.heap[0].until.After(now) {
		if x, ok := heap.Pop(&l.heap).(*lease); ok {
			x.end()
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

// maxGranting bounds the bytes of message bodies whose leases wait for the disk. One
// reader is always admitted.
const maxGranting = 64 << 20

func bodies(found []claimedMessage) (n int64) {
	for i := range found {
		n += int64(len(found[i].message.Body))
	}
	return n
}

// grant creates the leases of messages. It puts back the messages above the limits of the
// queue and of the reader.
func (e *Engine) grant(q *queue, found []claimedMessage, o messaging.TakeOptions) ([]claimedMessage, error) {
	n, err := q.reserveLeases(len(found), e.config.MaxLeased)
	e.putBack(q, found[n:])
	if err != nil {
		return nil, err
	}
	defer q.releaseLeases(n)
	if found = found[:n]; o.Quota == nil {
		return e.lease(q, found, o)
	}
	if n, err = o.Quota.Lease(len(found)); err != nil {
		n = 0
	}
	e.putBack(q, found[n:])
	if err != nil {
		return nil, err
	}
	kept, err := e.lease(q, found[:n], o)
	o.Quota.EndLease(n - len(kept)) // each lease ends the count of its own
	return kept, err
}

// lease increments the delivery counts of messages, durably, and creates their leases.
func (e *Engine) lease(q *queue, found []claimedMessage, o messaging.TakeOptions) ([]claimedMessage, error) {
	if err := e.leases.reserve(len(found)); err != nil {
		e.putBack(q, found)
		return nil, err
	}
	defer e.leases.release(len(found))
	bytes := bodies(found)
	defer e.granting.Add(-bytes)
	if all := e.granting.Add(bytes); all > maxGranting && all > bytes {
		e.putBack(q, found)
		err := messaging.Errorf(messaging.CodeOverloaded, "too many readers wait for the disk: try again in a second")
		err.RetryAfter = time.Second
		return nil, err
	}
	c := &deliveryChange{queue: q, found: found, by: 1}
	if err := e.log.Commit(c); err != nil {
		e.putBack(q, found)
		return nil, err
	}
	until := time.Now().Add(o.Lease)
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := found[:0]
	for _, h := range found {
		seq := h.message.Position.Sequence
		if q.claimed[seq] != h.claim {
			continue // evicted, cleared or expired since
		}
		x := &lease{queue: q, sequence: seq, number: e.leases.granted.Add(1), until: until, quota: o.Quota}
		h.claim.lease = x
		q.leased++
		e.queues.pinAgain(q)
		e.leases.add(x)
		h.message.Deliveries = h.claim.entry.Deliveries
		h.message.Receipt = e.receipts.encode(q.user, receipt{
			priority: h.claim.priority, sequence: seq, deliveries: h.message.Deliveries, lease: x.number,
		})
		kept = append(kept, h)
	}
	return kept, nil
}

// finishLeasedTake ends a delivery under leases. A delivery that did not arrive is not
// counted.
func (e *Engine) finishLeasedTake(q *queue, found []claimedMessage, delivered bool) {
	if delivered {
		e.queues.unpin(q) // each lease has its own pin
		return
	}
	q.mu.Lock()
	mine := found[:0]
	for _, h := range found {
		if seq := h.message.Position.Sequence; q.claimed[seq] == h.claim && h.claim.lease != nil {
			e.endLease(h.claim.lease)
			h.claim.lease = nil
			mine = append(mine, h)
		}
	}
	q.mu.Unlock()
	c := &deliveryChange{queue: q, found: mine, by: -1, onDurable: func() {
		e.putBack(q, mine)
		e.queues.unpin(q)
	}}
	if err := e.log.CommitAsync(c); err != nil {
		c.onDurable() // the service stops; the count on disk is one too high
	}
}

// endLease removes a lease and its pin. The caller has the queue's lock. Nil is no lease.
// If the lease's time is over, expireLease removes the pin instead.
func (e *Engine) endLease(x *lease) {
	if x != nil && e.leases.drop(x) {
		x.queue.leased--
		e.queues.unpin(x.queue)
	}
}

// deliveryChange changes the delivery counts of claimed messages.
type deliveryChange struct {
	queue     *queue
	found     []claimedMessage
	by        int
	onDurable func()
}

// Records implements [wal.Change]. It returns none.
func (c *deliveryChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *deliveryChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.found {
		h := &c.found[i]
		seq := h.message.Position.Sequence
		if q.claimed[seq] != h.claim {
			continue
		}
		h.claim.entry.Deliveries += uint32(c.by) //nolint:gosec // one more or one less
		tx.PutEntry(storage.Queued, q.user, h.claim.priority, seq, h.claim.entry)
	}
}

// OnDurable implements [wal.Change].
func (c *deliveryChange) OnDurable() {
	if c.onDurable != nil {
		c.onDurable()
	}
}

// sleepUntil returns true at a time (never for the zero time) or when wake receives. It
// returns false when the context ends.
func sleepUntil(ctx context.Context, at time.Time, wake <-chan struct{}) bool {
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
	case <-wake:
	}
	return true
}

// freeLocked ends a reader's claim on a message that stays in the queue. The message is
// requeued, unless it has expired or has used up its deliveries. The caller has removed
// the lease.
func (e *Engine) freeLocked(q *queue, seq uint64, held *claim) {
	held.lease = nil
	removing := []claimedMessage{{claim: held, message: messaging.Message{Position: messaging.Position{Sequence: seq}}}}
	switch {
	case e.isExhausted(held):
		held.removing = true
		e.queues.pinAgain(q)
		e.deadLetter(q, removing)
	case held.isExpired(e.now().UnixMilli()):
		held.removing = true
		e.queues.pinAgain(q)
		e.expireChange(q, removing)
	default:
		q.requeueLocked(seq)
	}
}
