package engine

import (
	"context"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Take hands out messages of a user's queue, in its order. Where there are none
// it waits for as long as asked, until the context ends or [Engine.StopWaiting].
//
// Without a lease they leave the queue when the handout is settled as
// delivered; that is not waited for, so a crash right after may repeat them.
// With one they are durably counted as delivered once more when Take returns.
func (e *Engine) Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Handout, error) {
	none := messaging.Handout{Settle: func(bool) {}}
	if err := e.log.Crowded(); err != nil {
		return none, err // what is handed out has to be committed as gone
	}
	q, err := e.queues.pinToWait(user)
	if err != nil {
		return none, internal(err)
	}
	found, err := e.lookOrWait(ctx, q, o)
	if err == nil && o.Lease > 0 && len(found) > 0 {
		found, err = e.grant(q, found, o.Lease)
	}
	if err != nil || len(found) == 0 {
		e.queues.unpin(q)
		return none, internal(err)
	}
	if o.Lease > 0 {
		e.counters.leased.Add(uint64(len(found)))
		return messaging.Handout{Messages: messagesOf(found), Settle: func(delivered bool) { e.settleLeases(q, found, delivered) }}, nil
	}
	return messaging.Handout{Messages: messagesOf(found), Settle: func(delivered bool) { e.settle(q, found, delivered) }}, nil
}

func messagesOf(found []handed) []messaging.Message {
	messages := make([]messaging.Message, len(found))
	for i := range found {
		messages[i] = found[i].message
	}
	return messages
}

// Peek gives what Take would, and takes nothing.
func (e *Engine) Peek(user messaging.UserID, limit int) ([]messaging.Message, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return nil, internal(err)
	}
	defer e.queues.unpin(q)
	found, _, err := e.look(q, limit, 0, false)
	if err != nil {
		return nil, internal(err)
	}
	return messagesOf(found), nil
}

// Size counts a user's queue.
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

// settle ends a handout: its messages leave the queue, or stand where they stood.
func (e *Engine) settle(q *queue, found []handed, delivered bool) {
	if delivered {
		q.doom(found)
		forgetBodies(found) // they may wait for the disk
		err := e.log.Enqueue(&takeChange{engine: e, queue: q, found: found})
		if err == nil {
			e.counters.taken.Add(uint64(len(found)))
			return // the change unpins
		}
		e.logger.Warn("messages were handed out and stay in their queue, because the service is stopping", "messages", len(found))
	}
	q.putBack(found)
	e.queues.unpin(q)
}

// forgetBodies keeps only what it takes to remove messages.
func forgetBodies(found []handed) {
	for i := range found {
		found[i].message = messaging.Message{Position: found[i].message.Position}
	}
}

// doom notes that messages are about to be removed.
func (q *queue) doom(found []handed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range found {
		found[i].out.doomed = true
	}
}

// putBack makes messages available again that were being handed out.
func (q *queue) putBack(found []handed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range found {
		if seq := found[i].message.Position.Sequence; q.out[seq] == found[i].out {
			q.giveBackLocked(seq)
		}
	}
}

// takeChange is messages leaving a queue because their reader has them, or
// because they are past their time.
type takeChange struct {
	engine  *Engine
	queue   *queue
	found   []handed
	removed func(n int)
}

// Records implements [wal.Change]: there are none.
func (c *takeChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *takeChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for i := range c.found {
		h := &c.found[i]
		if seq := h.message.Position.Sequence; q.out[seq] == h.out {
			c.engine.removeLocked(tx, q, storage.Queued, h.out.priority, seq, h.out.entry)
			n++
		}
	}
	if c.removed != nil {
		c.removed(n)
	}
}

// Published implements [wal.Change].
func (c *takeChange) Published() { c.engine.queues.unpin(c.queue) }

// expireChange starts to remove entries that are past their time.
func (e *Engine) expireChange(q *queue, doomed []handed) {
	c := &takeChange{engine: e, queue: q, found: doomed, removed: func(n int) { e.counters.expired.Add(uint64(n)) }} //nolint:gosec // not negative
	if err := e.log.Enqueue(c); err != nil {
		e.queues.unpin(q) // the service stops: the next one will find them
	}
}

// Clear empties a user's queue, messages under a lease and due later included,
// and says how many there were. What it clears still goes to the backend.
func (e *Engine) Clear(user messaging.UserID) (uint64, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return 0, internal(err)
	}
	defer e.queues.unpin(q)
	c := &clearChange{engine: e, queue: q}
	if err := e.log.Commit(c); err != nil {
		return 0, err
	}
	e.counters.cleared.Add(c.cleared)
	return c.cleared, nil
}

// clearChange is a queue losing all that it has.
type clearChange struct {
	engine  *Engine
	queue   *queue
	cleared uint64
}

// Records implements [wal.Change]: there are none.
func (c *clearChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. What an answer is being written of is gone
// too; its reader will have it all the same.
func (c *clearChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.cleared = q.state.Total(); c.cleared == 0 {
		return
	}
	tx.DeleteEntries(q.user)
	tx.AddQueued(-int64(c.cleared)) //nolint:gosec // a count of what is on disk
	for _, o := range q.out {
		c.engine.endLease(o.lease)
	}
	q.state = storage.User{}
	q.out, q.recent, q.arrivals = nil, nil, nil
	q.ahead = [messaging.Priorities]ahead{}
	q.outBy, q.returned, q.entering = [messaging.Priorities]sequences{}, [messaging.Priorities]sequences{}, [messaging.Priorities]sequences{}
	q.epoch++
	q.cleared = clearing{commit: tx.Commit, upTo: tx.Last}
	c.engine.touchLocked(q)
}

// Published implements [wal.Change].
func (c *clearChange) Published() {}
