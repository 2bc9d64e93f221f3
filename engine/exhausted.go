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

// exhausted holds messages that have used up their deliveries and are to become dead
// letters. Its size is bounded by the leases and scans that add to it. After a restart,
// scans of the queues find them again.
type exhausted struct {
	mu      sync.Mutex
	waiting []exhaustedIn
	changed chan struct{}
}

// exhaustedIn is the exhausted messages of one queue, which is pinned.
type exhaustedIn struct {
	queue    *queue
	removing []claimedMessage
}

// deadLetter queues messages to be made dead letters.
func (e *Engine) deadLetter(q *queue, removing []claimedMessage) {
	e.exhausted.mu.Lock()
	defer e.exhausted.mu.Unlock()
	e.exhausted.waiting = append(e.exhausted.waiting, exhaustedIn{q, removing})
	select {
	case e.exhausted.changed <- struct{}{}:
	default:
	}
}

func (x *exhausted) take() []exhaustedIn {
	x.mu.Lock()
	defer x.mu.Unlock()
	taken := x.waiting
	x.waiting = nil
	return taken
}

func (x *exhausted) putBack(rest []exhaustedIn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = append(rest, x.waiting...)
}

// exhaustedPause is how long it waits before it checks the disk's free space again.
const exhaustedPause = time.Second

// DeadLetterExhausted makes exhausted messages dead letters, until the context ends. A
// message leaves its queue and becomes a dead letter in one commit.
func (e *Engine) DeadLetterExhausted(ctx context.Context) error {
	var again time.Time
	for sleepUntil(ctx, again, e.exhausted.changed) {
		if again = (time.Time{}); e.admitLetters() != nil { // they stay in the queue
			again = time.Now().Add(exhaustedPause)
			continue
		}
		for waiting := e.exhausted.take(); len(waiting) > 0; {
			rest, err := e.deadLetterSome(waiting)
			if messaging.CodeOf(err) == messaging.CodeShuttingDown {
				e.exhausted.putBack(waiting)
				return nil
			}
			if err != nil {
				e.exhausted.putBack(waiting)
				return fmt.Errorf("make exhausted messages dead letters: %w", err)
			}
			waiting = rest
		}
	}
	return nil
}

// deadLetterSome makes dead letters of as many messages as fit one change, and returns the
// rest.
func (e *Engine) deadLetterSome(waiting []exhaustedIn) (rest []exhaustedIn, err error) {
	d := e.letters
	d.changing.lock()
	defer d.changing.unlock()
	c := &exhaustedChange{letterChange: letterChange{store: d, edit: d.newEdit()}}
	c.stage = c.stageAll
	rest = waiting
	bytes := 0
	for len(rest) > 0 && bytes < letterChangeBytes && len(c.found) < maxLetterChange {
		in := rest[0]
		n := 0
		for n < len(in.removing) && bytes < letterChangeBytes && len(c.found) < maxLetterChange {
			size, err := c.add(in.queue, in.removing[n])
			if err != nil {
				return nil, err
			}
			bytes += size
			n++
		}
		if n < len(in.removing) {
			rest = append([]exhaustedIn{{in.queue, in.removing[n:]}}, rest[1:]...)
			break
		}
		c.done = append(c.done, in.queue)
		rest = rest[1:]
	}
	if err := e.log.CommitUnbounded(c); err != nil {
		return nil, err
	}
	e.queues.unpinAll(c.done)
	return rest, nil
}

// exhaustedChange moves messages from their queues to the dead letters.
type exhaustedChange struct {
	letterChange

	found []exhaustedMessage
	done  []*queue // whose messages are all in this change
}

type exhaustedMessage struct {
	queue   *queue
	claim   *claim
	failure failure
}

// add reads a message that is to become a dead letter. It skips a message that was
// cleared, evicted or trimmed since.
func (c *exhaustedChange) add(q *queue, h claimedMessage) (size int, err error) {
	e, seq := c.store.engine, h.message.Position.Sequence
	q.mu.Lock()
	there := q.claimed[seq] == h.claim
	q.mu.Unlock()
	if !there {
		return 0, nil
	}
	x := exhaustedMessage{queue: q, claim: h.claim}
	m, err := e.message(q.user, candidate{h.claim.priority, seq, h.claim.entry})
	switch {
	case errors.Is(err, storage.ErrNotFound): // it only leaves its queue
		m.Position.Sequence = seq
		x.failure.message = &m
	case err != nil:
		return 0, err
	default:
		m.Receiver.User = q.user
		n := h.claim.entry.Deliveries
		x.failure = failure{
			kind: messaging.Undeliverable, reason: fmt.Sprintf("nobody acknowledged it in %d deliveries", n),
			attempts: int(n), at: e.config.Now(), message: &m,
		}
		if err := c.edit.loadAddition(x.failure.key(), &m); err != nil {
			return 0, err
		}
	}
	c.found = append(c.found, x)
	return len(m.Body) + messaging.JSONOverhead, nil
}

// stageAll removes the messages that are still queued from their queues, and makes them
// dead letters.
func (c *exhaustedChange) stageAll(tx *wal.Tx) {
	for i := range c.found {
		x := &c.found[i]
		seq := x.failure.message.Position.Sequence
		x.queue.mu.Lock()
		there := x.queue.claimed[seq] == x.claim
		if there {
			c.store.engine.removeLocked(tx, x.queue, storage.Queued, x.claim.priority, seq, x.claim.entry)
		}
		x.queue.mu.Unlock()
		if there && x.failure.kind != "" {
			c.edit.add(x.failure)
		}
	}
}
