package engine

import (
	"context"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Take delivers messages of a user's queue, in its order. If there are none it waits for
// at most o.Wait, until the context ends or [Engine.StopWaiting].
//
// Without a lease, messages leave the queue when the delivery is finished as delivered.
// Nothing waits for that to be durable, so a crash shortly afterwards may redeliver them.
// With a lease, the incremented delivery counts are durable when Take returns.
func (e *Engine) Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Delivery, error) {
	none := messaging.Delivery{Finish: func(bool) {}}
	if err := e.log.QueueFull(); err != nil {
		return none, err // the removal of delivered messages will need a commit
	}
	q, err := e.queues.pinToWait(user)
	if err != nil {
		return none, internal(err)
	}
	var found []claimedMessage
	if o.Lease > 0 {
		err = q.checkLeases(e.config.MaxLeased)
	}
	if err == nil {
		found, err = e.scanOrWait(ctx, q, o)
	}
	if err == nil && o.Lease > 0 && len(found) > 0 {
		found, err = e.grant(q, found, o)
	}
	if err != nil || len(found) == 0 {
		e.queues.unpin(q)
		return none, internal(err)
	}
	if o.Lease > 0 {
		e.counters.leased.Add(uint64(len(found)))
		return messaging.Delivery{Messages: messagesOf(found), Finish: func(delivered bool) { e.finishLeasedTake(q, found, delivered) }}, nil
	}
	return messaging.Delivery{Messages: messagesOf(found), Finish: func(delivered bool) { e.finishTake(q, found, delivered) }}, nil
}

func messagesOf(found []claimedMessage) []messaging.Message {
	messages := make([]messaging.Message, len(found))
	for i := range found {
		messages[i] = found[i].message
	}
	return messages
}

// Peek returns the messages that Take would deliver, and leaves them in the queue.
func (e *Engine) Peek(user messaging.UserID, limit int) ([]messaging.Message, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return nil, internal(err)
	}
	defer e.queues.unpin(q)
	found, _, err := e.scan(q, limit, 0, false)
	if err != nil {
		return nil, internal(err)
	}
	return messagesOf(found), nil
}

// Size returns the counts of a user's queue.
func (e *Engine) Size(user messaging.UserID) (messaging.Counts, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return messaging.Counts{}, internal(err)
	}
	defer e.queues.unpin(q)
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.countsLocked(), nil
}

// finishTake ends a delivery: its messages leave the queue, or become available again.
func (e *Engine) finishTake(q *queue, found []claimedMessage, delivered bool) {
	if delivered {
		q.markRemoving(found)
		forgetBodies(found) // the change may wait for the disk
		err := e.log.CommitAsync(&takeChange{engine: e, queue: q, found: found})
		if err == nil {
			e.counters.taken.Add(uint64(len(found)))
			return // the change unpins
		}
		e.logger.Warn("messages were delivered and stay in their queue, because the service is stopping", "messages", len(found))
	}
	e.putBack(q, found)
	e.queues.unpin(q)
}

// forgetBodies keeps only what the removal of messages needs.
func forgetBodies(found []claimedMessage) {
	for i := range found {
		found[i].message = messaging.Message{Position: found[i].message.Position}
	}
}

// markRemoving marks messages as about to be removed.
func (q *queue) markRemoving(found []claimedMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range found {
		found[i].claim.removing = true
	}
}

// putBack requeues claimed messages, or removes those that have expired since.
func (e *Engine) putBack(q *queue, found []claimedMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := e.now().UnixMilli()
	var expired []claimedMessage
	for _, h := range found {
		switch seq := h.message.Position.Sequence; {
		case q.claimed[seq] != h.claim:
		case h.claim.isExpired(now):
			h.claim.removing = true
			expired = append(expired, h)
		default:
			q.requeueLocked(seq)
		}
	}
	if len(expired) > 0 {
		e.queues.pinAgain(q) // for the change
		e.expireChange(q, expired)
	}
}

// isExpired reports whether a claimed message has expired and must not be requeued.
func (c *claim) isExpired(now int64) bool {
	return c.expired || (c.entry.Expires != 0 && c.entry.Expires <= now)
}

// takeChange removes messages from a queue because they were delivered or have expired.
type takeChange struct {
	engine  *Engine
	queue   *queue
	found   []claimedMessage
	removed func(n int)
}

// Records implements [wal.Change]. It returns none.
func (c *takeChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *takeChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for i := range c.found {
		h := &c.found[i]
		if seq := h.message.Position.Sequence; q.claimed[seq] == h.claim {
			c.engine.removeLocked(tx, q, storage.Queued, h.claim.priority, seq, h.claim.entry)
			n++
		}
	}
	if c.removed != nil {
		c.removed(n)
	}
}

// OnDurable implements [wal.Change].
func (c *takeChange) OnDurable() { c.engine.queues.unpin(c.queue) }

// expireChange starts the removal of expired entries. The change unpins the queue.
func (e *Engine) expireChange(q *queue, removing []claimedMessage) {
	c := &takeChange{engine: e, queue: q, found: removing, removed: func(n int) { e.counters.expired.Add(uint64(n)) }} //nolint:gosec // not negative
	if err := e.log.CommitAsync(c); err != nil {
		e.queues.unpin(q) // the service stops; the next start finds them
	}
}
