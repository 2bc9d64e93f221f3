package engine

import (
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Acknowledge takes messages out of a user's queue for good whose receipts are
// given. It returns when that is durable. Each receipt has its outcome, in
// their order; a receipt that is not good any more changes nothing.
func (e *Engine) Acknowledge(user messaging.UserID, receipts []string) ([]messaging.Outcome, error) {
	return e.onReceipts(user, receipts, func(q *queue, valid []held) error {
		c := &ackChange{engine: e, queue: q, held: valid}
		if err := e.log.Commit(c); err != nil {
			return err
		}
		e.counters.acknowledged.Add(c.done)
		return nil
	})
}

// Reject gives messages back to a user's queue, at once or after a delay, which
// is durable.
func (e *Engine) Reject(user messaging.UserID, receipts []string, delay time.Duration) ([]messaging.Outcome, error) {
	return e.onReceipts(user, receipts, func(q *queue, valid []held) error {
		if delay > 0 {
			return e.log.Commit(&nackChange{engine: e, queue: q, held: valid, due: e.now().Add(delay).UnixMilli()})
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		for i := range valid {
			if h := &valid[i]; h.isLocked(q) {
				e.endLease(h.lease)
				e.freeLocked(q, h.sequence, h.out)
				h.outcome = messaging.Nacked
			}
		}
		return nil
	})
}

// Extend lets leases end so long from now.
func (e *Engine) Extend(user messaging.UserID, receipts []string, term time.Duration) ([]messaging.Outcome, error) {
	until := time.Now().Add(term)
	return e.onReceipts(user, receipts, func(q *queue, valid []held) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		for i := range valid {
			if h := &valid[i]; h.isLocked(q) && e.leases.extend(h.lease, until) {
				h.outcome = messaging.Extended
			}
		}
		return nil
	})
}

// held is a message under a lease whose receipt was given.
type held struct {
	index    int // among the receipts
	sequence uint64
	out      *outstanding
	lease    *lease
	outcome  messaging.Outcome
}

// isLocked says whether the lease is still in force.
func (h *held) isLocked(q *queue) bool { return q.out[h.sequence] == h.out && h.out.lease == h.lease }

// onReceipts finds the messages that receipts stand for, does something with
// those that are good, and says what became of the others.
func (e *Engine) onReceipts(user messaging.UserID, receipts []string, do func(q *queue, valid []held) error) ([]messaging.Outcome, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return nil, internal(err)
	}
	defer e.queues.unpin(q)
	outcomes := make([]messaging.Outcome, len(receipts))
	parsed := make([]receipt, len(receipts))
	var valid []held
	q.mu.Lock()
	for i, text := range receipts {
		r, ok := decodeReceipt(text)
		parsed[i] = r
		switch {
		case !ok || r.user != userTag(user):
			outcomes[i] = messaging.Unknown
		case r.nonce != e.nonce:
			outcomes[i] = messaging.Expired
		default:
			if o := q.out[r.sequence]; o != nil && o.lease != nil && o.lease.number == r.lease {
				valid = append(valid, held{index: i, sequence: r.sequence, out: o, lease: o.lease})
			}
		}
	}
	q.mu.Unlock()
	if len(valid) > 0 {
		if err := do(q, valid); err != nil {
			return nil, err
		}
	}
	for _, h := range valid {
		outcomes[h.index] = h.outcome
	}
	for i := range outcomes {
		if outcomes[i] == "" {
			if outcomes[i], err = e.lapsed(q, parsed[i]); err != nil {
				return nil, internal(err)
			}
		}
	}
	return outcomes, nil
}

// lapsed says what a receipt is whose lease is over: expired where the message
// is still in the queue, else unknown. What is about to be removed does not
// count, as in the queue's size.
func (e *Engine) lapsed(q *queue, r receipt) (messaging.Outcome, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if o := q.out[r.sequence]; o != nil && o.doomed {
		return messaging.Unknown, nil
	}
	_, _, ok, err := e.whereLocked(q, r.priority, r.sequence)
	if err != nil || !ok {
		return messaging.Unknown, err
	}
	return messaging.Expired, nil
}

// ackChange is messages leaving a queue because their reader has done with them.
type ackChange struct {
	engine *Engine
	queue  *queue
	held   []held
	done   uint64
}

// Records implements [wal.Change]: there are none.
func (c *ackChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *ackChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.held {
		h := &c.held[i]
		if !h.isLocked(q) {
			continue
		}
		c.engine.removeLocked(tx, q, storage.Queued, h.out.priority, h.sequence, h.out.entry)
		h.outcome = messaging.Acked
		c.done++
	}
}

// Published implements [wal.Change].
func (c *ackChange) Published() {}

// nackChange is messages that are due again later.
type nackChange struct {
	engine *Engine
	queue  *queue
	held   []held
	due    int64
}

// Records implements [wal.Change]: there are none.
func (c *nackChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *nackChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.held {
		h := &c.held[i]
		if !h.isLocked(q) {
			continue
		}
		h.outcome = messaging.Nacked
		if limit := c.engine.config.MaxDeliveries; limit > 0 && h.out.entry.Deliveries >= limit {
			c.engine.endLease(h.lease)
			c.engine.freeLocked(q, h.sequence, h.out)
			continue
		}
		later := h.out.entry
		later.Due = c.due
		c.engine.moveLocked(tx, q, storage.Queued, h.out.priority, h.sequence, h.out.entry, later)
	}
}

// Published implements [wal.Change].
func (c *nackChange) Published() {}
