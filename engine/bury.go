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
	// letters is held while a dead letter is written, and from a message's coming
	// back until its dead letter has gone: one that dies again at once would join
	// its old letter, and go with it.
	letters chan struct{}
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

// burialBytes bounds the messages that are made dead letters of in one
// transaction.
const burialBytes = 4 << 20

func (e *Engine) buryOne(b burial) error {
	if err := e.writeLetters(b); err != nil {
		return err
	}
	if err := e.log.Enqueue(&takeChange{engine: e, queue: b.queue, found: b.doomed}); err != nil {
		e.queues.unpin(b.queue) // the service stops
	}
	return nil
}

func (e *Engine) writeLetters(b burial) error {
	e.burials.letters <- struct{}{}
	defer func() { <-e.burials.letters }()
	var letters []messaging.DeadLetter
	bytes := 0
	for _, h := range b.doomed {
		m, ok, err := e.doomedMessage(b.queue, h)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		letters = append(letters, messaging.DeadLetter{
			ID: messaging.DeadLetterID(messaging.Undeliverable, m.ID), Kind: messaging.Undeliverable,
			Reason:   fmt.Sprintf("nobody acknowledged it in %d deliveries", h.out.entry.Deliveries),
			Attempts: int(h.out.entry.Deliveries), FailedAt: e.config.Now(), Message: m,
		})
		if bytes += len(m.Body); bytes >= burialBytes {
			if err := e.store.Control().AddDeadLetters(letters); err != nil {
				return err
			}
			letters, bytes = nil, 0
		}
	}
	return e.store.Control().AddDeadLetters(letters)
}

// doomedMessage reads a message that is to be buried; ok is false where someone
// has cleared or evicted it since, or retention takes it.
func (e *Engine) doomedMessage(q *queue, h handed) (m messaging.Message, ok bool, err error) {
	seq := h.message.Position.Sequence
	q.mu.Lock()
	ok = q.out[seq] == h.out
	q.mu.Unlock()
	if !ok {
		return m, false, nil
	}
	m, err = e.message(q.user, place{h.out.priority, seq, h.out.entry})
	if errors.Is(err, storage.ErrNotFound) {
		return m, false, nil
	}
	m.Receiver.User = q.user
	return m, err == nil, err
}

// Requeue puts a message back into its receiver's queue, at the place of its
// sequence, with no deliveries counted. Where that cannot be, refusal says why:
// the log does not have it any more, or it has expired. A message that stands in
// the queue is left as it is.
//
// settle lets go of its dead letter. It is called when the message is durably in
// its queue; no dead letter is written meanwhile.
func (e *Engine) Requeue(m *messaging.Message, settle func() error) (refusal string, err error) {
	e.burials.letters <- struct{}{}
	defer func() { <-e.burials.letters }()
	if refusal, err = e.requeue(m); refusal == "" && err == nil {
		err = settle()
	}
	return refusal, err
}

func (e *Engine) requeue(m *messaging.Message) (refusal string, err error) {
	now := e.now()
	if !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now) {
		return "it has expired (expires_at): it is not handed out any more", nil
	}
	q, err := e.queues.pin(m.Receiver.User)
	if err != nil {
		return "", internal(err)
	}
	defer e.queues.unpin(q)
	const gone = "the log does not have it any more (MESSAGE_RETENTION_DAYS, or a full disk): send it anew, or delete it"
	if !e.requeues.enter(m.Position.Sequence) {
		return gone, nil
	}
	defer e.requeues.leave(m.Position.Sequence)
	e.requeues.coming.RLock()
	defer e.requeues.coming.RUnlock()
	if _, err := e.log.Record(m.Position.Sequence); errors.Is(err, storage.ErrNotFound) {
		return gone, nil
	}
	entry := entryOf(m, now)
	entry.Due, entry.Quoted = 0, m.Copy && m.Receiver.Quoted
	c := &requeueChange{engine: e, queue: q, sequence: m.Position.Sequence, priority: m.Priority, entry: entry}
	if err := e.log.Commit(c); err != nil {
		return "", err
	}
	if c.err == nil && !c.done {
		refusal = gone
	}
	return refusal, internal(c.err)
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

// Stage implements [wal.Change]. An entry that is about to go, because its dead
// letter was just written, is let in anew.
func (c *requeueChange) Stage(tx *wal.Tx) {
	if c.sequence < tx.Floor() {
		return
	}
	q, e := c.queue, c.engine
	q.mu.Lock()
	defer q.mu.Unlock()
	shelf, before, stands, err := e.whereLocked(q, c.priority, c.sequence)
	if err != nil {
		c.err = err
		return
	}
	c.done = true
	o := q.out[c.sequence]
	spent := o == nil && e.config.MaxDeliveries > 0 && before.Deliveries >= e.config.MaxDeliveries
	switch {
	case !stands:
		e.enterLocked(tx, q, c.priority, c.sequence, c.entry, false)
	case spent, o != nil && o.doomed:
		e.moveLocked(tx, q, shelf, c.priority, c.sequence, before, c.entry)
	}
}

// Published implements [wal.Change].
func (c *requeueChange) Published() {}
