package engine

import (
	"errors"
	"maps"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// maxHandout bounds the bodies of one answer, in bytes; there is always at
// least one message.
const maxHandout = 8 << 20

// Take hands out up to limit messages of a user's queue, in its order. They
// leave the queue when the handout is settled as delivered; that is not waited
// for, so a crash right after may repeat them.
func (e *Engine) Take(user messaging.UserID, limit int) (messaging.Handout, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return messaging.Handout{}, internal(err)
	}
	page, err := e.look(q, limit, true)
	if err != nil {
		e.queues.unpin(q)
		return messaging.Handout{}, internal(err)
	}
	if len(page) == 0 {
		e.queues.unpin(q)
		return messaging.Handout{Settle: func(bool) {}}, nil
	}
	return messaging.Handout{Messages: page, Settle: func(delivered bool) { e.settle(q, page, delivered) }}, nil
}

// Peek gives what Take would, and takes nothing.
func (e *Engine) Peek(user messaging.UserID, limit int) ([]messaging.Message, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return nil, internal(err)
	}
	defer e.queues.unpin(q)
	page, err := e.look(q, limit, false)
	if err != nil {
		return nil, internal(err)
	}
	return page, nil
}

// look reads the next messages of a queue. It reads the disk without the
// queue's lock and then takes what is still there.
func (e *Engine) look(q *queue, limit int, take bool) ([]messaging.Message, error) {
	q.reading.Lock()
	defer q.reading.Unlock()
	s := q.beginRead(e.log)
	page, err := e.readPage(q, s, limit)
	return q.endRead(page, err, take), err
}

// snapshot is what a reader knows of a queue when it begins to look.
type snapshot struct {
	cursor    [messaging.Priorities]uint64
	available [messaging.Priorities]uint64
	leaving   map[uint64]*departure
	// end is the first sequence that it must not see. It is one for all
	// priorities, or a message could overtake a higher one that came before it.
	end uint64
}

func (q *queue) beginRead(log *wal.Log) snapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.beginReadLocked()
	s := snapshot{cursor: q.cursor, end: log.Durable() + 1}
	if len(q.leaving) > 0 {
		s.leaving = maps.Clone(q.leaving)
	}
	for p := range s.available {
		s.available[p] = q.availableLocked(messaging.Priority(p))
	}
	return s
}

// readPage reads up to limit messages from the disk, higher priorities first.
func (e *Engine) readPage(q *queue, s snapshot, limit int) ([]messaging.Message, error) {
	var page []messaging.Message
	bytes := 0
	for p := messaging.High; p <= messaging.Low && len(page) < limit; p++ {
		if s.available[p] == 0 {
			continue
		}
		places, err := e.places(q, s, p, limit-len(page))
		if err != nil {
			return nil, err
		}
		for _, place := range places {
			m, err := e.message(q.user, place)
			if errors.Is(err, storage.ErrNotFound) {
				continue // retention took it meanwhile
			}
			if err != nil {
				return nil, err
			}
			bytes += len(m.Body) + messaging.JSONOverhead
			if bytes > maxHandout && len(page) > 0 {
				return page, nil
			}
			page = append(page, m)
		}
	}
	return page, nil
}

// place is an entry of a queue.
type place struct {
	sequence uint64
	entry    storage.Entry
}

// places lists entries of one priority. It closes its iterator before anyone
// reads a body.
func (e *Engine) places(q *queue, s snapshot, p messaging.Priority, limit int) (found []place, err error) {
	err = e.store.Entries(q.user, p, s.cursor[p], s.end, func(seq uint64, entry storage.Entry) bool {
		if s.leaving[seq] == nil {
			found = append(found, place{seq, entry})
		}
		return len(found) < limit
	})
	return found, err
}

// message reads the message that an entry stands for.
func (e *Engine) message(user messaging.UserID, at place) (messaging.Message, error) {
	record, err := e.log.Record(at.sequence)
	if err != nil {
		return messaging.Message{}, err
	}
	if record.IsBroadcast() {
		return record.CopyFor(at.sequence, 0, messaging.Receiver{User: user, Quoted: at.entry.Quoted}), nil
	}
	return record.Single(at.sequence), nil
}

// endRead gives of what was read what is still there; with take it is marked as
// leaving.
func (q *queue) endRead(page []messaging.Message, err error, take bool) []messaging.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := page[:0]
	if err == nil {
		for _, m := range page {
			if q.leaving[m.Position.Sequence] != nil {
				continue
			}
			kept = append(kept, m)
			if take {
				q.leaveLocked(m.Priority, m.Position.Sequence)
				q.cursor[m.Priority] = min(m.Position.Sequence+1, q.lowered[m.Priority])
			}
		}
	}
	q.endReadLocked()
	q.sweepLocked()
	return kept
}

// settle ends a handout: its messages leave the queue, or stand where they stood.
func (e *Engine) settle(q *queue, page []messaging.Message, delivered bool) {
	if delivered {
		err := e.log.Enqueue(&takeChange{engine: e, queue: q, page: page})
		if err == nil {
			e.counters.taken.Add(uint64(len(page)))
			return // the change unpins
		}
		e.logger.Warn("messages were handed out and stay in their queue, because the service is stopping", "messages", len(page))
	}
	q.putBack(page)
	e.queues.unpin(q)
}

// putBack makes messages available again that were being handed out.
func (q *queue) putBack(page []messaging.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range page {
		seq := m.Position.Sequence
		if d := q.leaving[seq]; d != nil && !d.gone {
			q.returnLocked(seq, d)
		}
	}
}

// takeChange is messages leaving a queue because their reader has them.
type takeChange struct {
	engine *Engine
	queue  *queue
	page   []messaging.Message
	commit uint64
}

func (c *takeChange) Record() *wal.Record { return nil }

func (c *takeChange) Stage(tx *wal.Tx) {
	q := c.queue
	c.commit = tx.Commit
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range c.page {
		seq := m.Position.Sequence
		if d := q.leaving[seq]; d != nil && q.removeLocked(d, tx.Commit) {
			tx.DeleteEntry(q.user, m.Priority, seq)
			tx.AddQueued(-1)
		}
	}
	q.settleHeadsLocked()
	c.engine.touchLocked(q)
}

func (c *takeChange) Published() {
	c.queue.published(c.commit)
	c.engine.queues.unpin(c.queue)
}
