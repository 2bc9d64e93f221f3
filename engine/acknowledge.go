package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Acknowledge removes the messages of receipts from a user's queue. It returns when the
// removal is durable. It returns one outcome per receipt, in their order. A receipt that
// is no longer valid changes nothing.
func (e *Engine) Acknowledge(user messaging.UserID, receipts []string) ([]messaging.Outcome, error) {
	return e.onReceipts(user, receipts, func(q *queue, valid []leasedMessage) error {
		c := &ackChange{engine: e, queue: q, messages: valid}
		if err := e.log.Commit(c); err != nil {
			return err
		}
		e.counters.acknowledged.Add(c.done)
		return nil
	})
}

// Nack requeues the messages of receipts, at once or after a delay. The delay is durable.
// A message that was delivered often comes back after its retry pause instead of at once.
func (e *Engine) Nack(user messaging.UserID, receipts []string, delay time.Duration) ([]messaging.Outcome, error) {
	return e.onReceipts(user, receipts, func(q *queue, valid []leasedMessage) error {
		later := &nackChange{engine: e, queue: q, messages: valid, delay: delay, now: e.now()}
		if delay > 0 || q.anyPaused(e, valid) {
			if err := e.log.Commit(later); err != nil {
				return err
			}
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		for i := range valid {
			if h := &valid[i]; h.outcome == "" && h.inForceLocked(q) {
				e.endLease(h.lease)
				e.freeLocked(q, h.sequence, h.claim)
				h.outcome = messaging.Nacked
			}
		}
		return nil
	})
}

func (q *queue) anyPaused(e *Engine, valid []leasedMessage) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(valid, func(h leasedMessage) bool { return e.isPaused(h.claim) })
}

// Extend sets the end of leases to term from now.
func (e *Engine) Extend(user messaging.UserID, receipts []string, term time.Duration) ([]messaging.Outcome, error) {
	until := time.Now().Add(term)
	return e.onReceipts(user, receipts, func(q *queue, valid []leasedMessage) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		for i := range valid {
			if h := &valid[i]; h.inForceLocked(q) && e.leases.extend(h.lease, until) {
				h.outcome = messaging.Extended
			}
		}
		return nil
	})
}

// leasedMessage is the message of a valid receipt, with its lease.
type leasedMessage struct {
	index    int // in the list of receipts
	sequence uint64
	claim    *claim
	lease    *lease
	outcome  messaging.Outcome
}

// inForceLocked reports whether the lease is still in force.
func (h *leasedMessage) inForceLocked(q *queue) bool {
	return q.claimed[h.sequence] == h.claim && h.claim.lease == h.lease
}

// onReceipts resolves receipts, calls do with the messages whose leases are in force, and
// returns the outcome of each receipt.
func (e *Engine) onReceipts(user messaging.UserID, receipts []string, do func(q *queue, valid []leasedMessage) error) ([]messaging.Outcome, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return nil, internal(err)
	}
	defer e.queues.unpin(q)
	outcomes := make([]messaging.Outcome, len(receipts))
	parsed := make([]receipt, len(receipts))
	for i, text := range receipts {
		parsed[i], outcomes[i] = e.receipts.decode(user, text)
	}
	var valid []leasedMessage
	q.mu.Lock()
	for i, r := range parsed {
		if outcomes[i] == "" {
			if held := q.claimed[r.sequence]; held != nil && held.lease != nil && held.lease.number == r.lease {
				valid = append(valid, leasedMessage{index: i, sequence: r.sequence, claim: held, lease: held.lease})
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
			if outcomes[i], err = e.staleOutcome(q, parsed[i]); err != nil {
				return nil, internal(err)
			}
		}
	}
	return outcomes, nil
}

// staleOutcome returns the outcome of a receipt whose lease has ended: expired if the
// message is still in the queue, else unknown. A message that is being removed does not
// count, as in the queue's size.
func (e *Engine) staleOutcome(q *queue, r receipt) (messaging.Outcome, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	snapshot := e.log.Snapshot()
	defer snapshot.Release()
	if held := q.claimed[r.sequence]; held != nil && held.removing {
		return messaging.Unknown, nil
	}
	_, _, ok, err := q.lookupLocked(snapshot.Reader, snapshot.Commit, r.priority, r.sequence)
	if err != nil || !ok {
		return messaging.Unknown, err
	}
	return messaging.Expired, nil
}

// ackChange removes acknowledged messages from a queue.
type ackChange struct {
	engine   *Engine
	queue    *queue
	messages []leasedMessage
	done     uint64
}

// Records implements [wal.Change]. It returns none.
func (c *ackChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *ackChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.messages {
		h := &c.messages[i]
		if !h.inForceLocked(q) {
			continue
		}
		c.engine.removeLocked(tx, q, storage.Queued, h.claim.priority, h.sequence, h.claim.entry)
		h.outcome = messaging.Acked
		c.done++
	}
}

// OnDurable implements [wal.Change].
func (c *ackChange) OnDurable() {}

// nackChange makes messages due later: after the delay that the reader requested or, if
// that is 0, after the message's retry pause. It skips messages that come back at once.
type nackChange struct {
	engine   *Engine
	queue    *queue
	messages []leasedMessage
	delay    time.Duration
	now      time.Time
}

// Records implements [wal.Change]. It returns none.
func (c *nackChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *nackChange) Stage(tx *wal.Tx) {
	q, e := c.queue, c.engine
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.messages {
		h := &c.messages[i]
		pause := cmp.Or(c.delay, e.retryPause(h.claim.entry.Deliveries))
		if pause > 0 && h.inForceLocked(q) && !e.isExhausted(h.claim) && !h.claim.isExpired(c.now.UnixMilli()) {
			e.pauseLocked(tx, q, h.sequence, h.claim, c.now.Add(pause))
			h.outcome = messaging.Nacked
		}
	}
}

// OnDurable implements [wal.Change].
func (c *nackChange) OnDurable() {}
