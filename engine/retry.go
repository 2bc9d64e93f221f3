package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// A message that readers nack repeatedly would be delivered again and again before
// everything after it. So from its third delivery on it comes back after a pause, which
// doubles with each further delivery.
const (
	// pausedFrom is the first delivery after which there is a pause.
	pausedFrom = 3
	// longestRetry bounds the pause.
	longestRetry = 5 * time.Minute
)

// retryPause returns the pause before a message comes back after so many deliveries; 0
// means at once.
func (e *Engine) retryPause(deliveries uint32) time.Duration {
	if e.config.RetryBackoff <= 0 || deliveries < pausedFrom {
		return 0
	}
	pause := min(e.config.RetryBackoff, longestRetry)
	for n := deliveries - pausedFrom; n > 0 && pause < longestRetry; n-- {
		pause *= 2
	}
	return min(pause, longestRetry)
}

// isPaused reports whether a message whose claim ends now stays in its queue and comes back
// after a pause.
func (e *Engine) isPaused(held *claim) bool {
	return e.retryPause(held.entry.Deliveries) > 0 && !e.isExhausted(held) && !held.isExpired(e.now().UnixMilli())
}

// isExhausted reports whether a message has used up its deliveries.
func (e *Engine) isExhausted(held *claim) bool {
	return e.config.MaxDeliveries > 0 && held.entry.Deliveries >= e.config.MaxDeliveries
}

// Leases ends the leases whose time is over, until the context ends. Each message is
// requeued, at once or after a pause, expires, or becomes a dead letter.
func (e *Engine) Leases(ctx context.Context) error {
	for {
		over, next := e.leases.ended(time.Now())
		paused := make(map[*queue]*retryChange)
		for _, x := range over {
			e.expireLease(x, paused)
		}
		for _, c := range paused {
			if err := e.log.CommitAsync(c); err != nil {
				e.queues.unpin(c.queue) // the service stops; the next start ends all leases
			}
		}
		if len(over) > 0 {
			continue
		}
		if !sleepUntil(ctx, next, e.leases.changed) {
			return nil
		}
	}
}

// expireLease ends a lease that was not acknowledged in time. If its message comes back
// after a pause, it is added to the change of its queue.
func (e *Engine) expireLease(x *lease, paused map[*queue]*retryChange) {
	q := x.queue
	defer e.queues.unpin(q)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leased--
	held := q.claimed[x.sequence]
	if held == nil || held.lease != x {
		return
	}
	e.counters.redelivered.Add(1)
	if !e.isPaused(held) {
		e.freeLocked(q, x.sequence, held)
		return
	}
	held.lease = nil // it stays claimed until the change is staged
	c := paused[q]
	if c == nil {
		e.queues.pinAgain(q) // for the change
		c = &retryChange{engine: e, queue: q, now: e.now()}
		paused[q] = c
	}
	c.found = append(c.found, claimedMessage{claim: held, message: messaging.Message{Position: messaging.Position{Sequence: x.sequence}}})
}

// retryChange delays messages of one queue whose leases have ended.
type retryChange struct {
	engine *Engine
	queue  *queue
	found  []claimedMessage
	now    time.Time
}

// Records implements [wal.Change]. It returns none.
func (c *retryChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *retryChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, h := range c.found {
		switch seq := h.message.Position.Sequence; {
		case q.claimed[seq] != h.claim:
		case h.claim.isExpired(c.now.UnixMilli()): // expired since its lease ended
			c.engine.removeLocked(tx, q, storage.Queued, h.claim.priority, seq, h.claim.entry)
			c.engine.counters.expired.Add(1)
		default:
			c.engine.pauseLocked(tx, q, seq, h.claim, c.now.Add(c.engine.retryPause(h.claim.entry.Deliveries)))
		}
	}
}

// OnDurable implements [wal.Change].
func (c *retryChange) OnDurable() { c.engine.queues.unpin(c.queue) }

// pauseLocked makes a claimed message due at a time, within a commit. Its claim and its
// lease end.
func (e *Engine) pauseLocked(tx *wal.Tx, q *queue, seq uint64, held *claim, due time.Time) {
	later := held.entry
	later.Due = due.UnixMilli()
	e.moveLocked(tx, q, storage.Queued, held.priority, seq, held.entry, later)
}

// reserveLeases reserves up to n leases of a queue; releaseLeases returns them.
func (q *queue) reserveLeases(n, limit int) (reserved int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	reserved = max(0, min(n, limit-q.leased-q.leasing))
	if reserved == 0 && n > 0 {
		return 0, leasedOut(q.leased)
	}
	q.leasing += reserved
	return reserved, nil
}

func (q *queue) releaseLeases(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leasing -= n
}

// checkLeases returns an error if a queue has reached its limit of leases.
func (q *queue) checkLeases(limit int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leased < limit {
		return nil
	}
	return leasedOut(q.leased)
}

func leasedOut(leased int) error {
	are := "1 message of this queue is"
	if leased != 1 {
		are = fmt.Sprintf("%d messages of this queue are", leased)
	}
	err := messaging.Errorf(messaging.CodeTooManyRequests,
		"%s leased, which is the limit (QUEUE_MAX_LEASED): acknowledge or nack some, or let their leases expire", are)
	err.RetryAfter = time.Second
	return err
}
