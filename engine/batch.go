package engine

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// SendAll makes messages durable and puts each into its receiver's queue: all
// of them in one commit, or none. Their sequences follow one another.
func (e *Engine) SendAll(drafts []messaging.Draft, o messaging.Once) (messaging.Receipt, error) {
	return e.once(o, func(once *onceStage) (messaging.Receipt, error) {
		if err := e.admit(); err != nil {
			return messaging.Receipt{}, err
		}
		c, err := e.batchOf(drafts, once)
		if err != nil {
			return messaging.Receipt{}, err
		}
		defer e.queues.unpinAll(c.queues)
		if err := e.log.Commit(c); err != nil {
			return messaging.Receipt{}, err
		}
		e.counters.accepted.Add(uint64(len(drafts)))
		return c.receipt, nil
	})
}

// batchOf prepares a batch: its messages with ids and times, and their queues,
// pinned.
func (e *Engine) batchOf(drafts []messaging.Draft, once *onceStage) (*batchChange, error) {
	id, now, err := e.stamp()
	if err != nil {
		return nil, err
	}
	c := &batchChange{engine: e, once: once, records: make([]wal.Record, len(drafts)), entries: make([]storage.Entry, len(drafts))}
	users := make([]messaging.UserID, len(drafts))
	for i := range drafts {
		if c.records[i].Message, c.entries[i], err = e.prepare(drafts[i], messaging.NthID(id, i), now); err != nil {
			return nil, itemError(err, i)
		}
		users[i] = drafts[i].Receiver
	}
	if c.queues, err = e.queues.pinAll(users, false); err != nil {
		return nil, internal(err)
	}
	c.receipt = messaging.Receipt{ID: id, Recipients: len(drafts), Count: len(drafts)}
	return c, nil
}

// batchChange is messages entering their queues, one behind the other.
type batchChange struct {
	engine  *Engine
	once    *onceStage
	records []wal.Record
	entries []storage.Entry
	queues  []*queue
	receipt messaging.Receipt
}

// Records implements [wal.Change].
func (c *batchChange) Records() []wal.Record { return c.records }

// Stage implements [wal.Change].
func (c *batchChange) Stage(tx *wal.Tx) {
	c.receipt.Sequence = tx.Sequence
	for i := range c.records {
		c.engine.enter(tx, c.queues[i], c.records[i].Message.Priority, tx.Sequence+uint64(i), c.entries[i], true)
	}
	c.once.put(tx, c.receipt)
}

// Published implements [wal.Change].
func (c *batchChange) Published() {}
