package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// burials are messages that were delivered as often as they may be and are to
// become dead letters. They are bounded by the leases and looks that brought
// them; what a stop leaves is found again by whoever looks at the queue.
type burials struct {
	mu      sync.Mutex
	waiting []burial
	news    chan struct{}
}

// burial is one user's messages; the queue is pinned.
type burial struct {
	queue  *queue
	doomed []handed
}

// bury starts to make dead letters of messages.
func (e *Engine) bury(q *queue, doomed []handed) {
	e.burials.mu.Lock()
	defer e.burials.mu.Unlock()
	e.burials.waiting = append(e.burials.waiting, burial{q, doomed})
	select {
	case e.burials.news <- struct{}{}:
	default:
	}
}

func (b *burials) take() []burial {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.waiting
	b.waiting = nil
	return taken
}

func (b *burials) putBack(rest []burial) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(rest, b.waiting...)
}

// burialRetry is how long it waits when dead letters cannot be written.
const burialRetry = time.Second

// Bury makes dead letters of what was delivered too often, until the context
// ends. A dead letter is durable before its message leaves the queue: a crash in
// between leaves both, and the message is found and buried again, under the
// same id.
func (e *Engine) Bury(ctx context.Context) error {
	for {
		var retry time.Time
		for waiting := e.burials.take(); len(waiting) > 0; waiting = waiting[1:] {
			if err := e.buryOne(waiting[0]); err != nil {
				e.burials.putBack(waiting)
				if !errors.Is(err, storage.ErrDiskFull) {
					return fmt.Errorf("make dead letters of what nobody acknowledges: %w", err)
				}
				retry = time.Now().Add(burialRetry)
				break
			}
		}
		if !sleepUntil(ctx, retry, e.burials.news) {
			return nil
		}
	}
}

func (e *Engine) buryOne(b burial) error {
	letters := make([]messaging.DeadLetter, 0, len(b.doomed))
	for _, h := range b.doomed {
		seq := h.message.Position.Sequence
		m, err := e.message(b.queue.user, place{h.out.priority, seq, h.out.entry})
		if errors.Is(err, storage.ErrNotFound) {
			continue // retention takes it
		}
		if err != nil {
			return err
		}
		m.Receiver.User = b.queue.user
		letters = append(letters, messaging.DeadLetter{
			ID: messaging.DeadLetterID(messaging.Undeliverable, m.ID), Kind: messaging.Undeliverable,
			Reason:   fmt.Sprintf("nobody acknowledged it in %d deliveries", h.out.entry.Deliveries),
			Attempts: int(h.out.entry.Deliveries), FailedAt: e.config.Now(), Message: m,
		})
	}
	if err := e.store.Control().AddDeadLetters(letters); err != nil {
		return err
	}
	err := e.log.Enqueue(&takeChange{engine: e, queue: b.queue, found: b.doomed})
	if err != nil {
		e.queues.unpin(b.queue) // the service stops
	}
	return nil
}

// Requeue puts a message back into a user's queue, at the place of its
// sequence, with no deliveries counted. done is false where the log does not
// have the message any more. A message that stands in the queue is left as it
// is.
func (e *Engine) Requeue(m *messaging.Message) (done bool, err error) {
	user, seq := m.Receiver.User, m.Position.Sequence
	q, err := e.queues.pin(user)
	if err != nil {
		return false, internal(err)
	}
	defer e.queues.unpin(q)
	c := &requeueChange{engine: e, queue: q, sequence: seq, priority: m.Priority, entry: storage.Entry{Quoted: m.Copy && m.Receiver.Quoted}}
	if err := e.log.Commit(c); err != nil {
		return false, err
	}
	return c.done, internal(c.err)
}

// requeueChange is a message coming back into its queue.
type requeueChange struct {
	engine   *Engine
	queue    *queue
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
	done     bool
	err      error
}

// Records implements [wal.Change]: there are none.
func (c *requeueChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *requeueChange) Stage(tx *wal.Tx) {
	if c.sequence < tx.Floor() {
		return
	}
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	_, _, stands, err := c.engine.whereLocked(c.queue, c.priority, c.sequence)
	if err != nil {
		c.err = err
		return
	}
	if !stands {
		c.engine.enterLocked(tx, c.queue, c.priority, c.sequence, c.entry, false)
	}
	c.done = true
}

// Published implements [wal.Change].
func (c *requeueChange) Published() {}
