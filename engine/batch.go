package engine

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// SendAll makes messages durable and puts each into its receiver's queue: all of them in
// one commit, or none. Their sequences are consecutive.
func (e *Engine) SendAll(drafts []messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error) {
	return e.idempotent(o, func(key *idempotencyStage) (messaging.SendResult, error) {
		if err := e.admit(); err != nil {
			return messaging.SendResult{}, err
		}
		c, err := e.batchOf(drafts, key)
		if err != nil {
			return messaging.SendResult{}, err
		}
		defer e.queues.unpinAll(c.queues)
		if err := e.log.Commit(c); err != nil {
			return messaging.SendResult{}, err
		}
		e.countAccepted(len(drafts))
		return c.result, nil
	})
}

// batchOf prepares a batch: it sets ids and times of the messages, and pins their queues.
func (e *Engine) batchOf(drafts []messaging.Draft, key *idempotencyStage) (*batchChange, error) {
	id, now, err := e.stamp()
	if err != nil {
		return nil, err
	}
	c := &batchChange{engine: e, key: key, records: make([]wal.Record, len(drafts)), entries: make([]storage.Entry, len(drafts))}
	users := make([]messaging.UserID, len(drafts))
	for i := range drafts {
		if c.records[i].Message, c.entries[i], err = e.prepare(drafts[i], messaging.BatchID(id, i), now); err != nil {
			return nil, itemError(err, i)
		}
		users[i] = drafts[i].Receiver
	}
	if c.queues, err = e.queues.pinAll(users, false); err != nil {
		return nil, internal(err)
	}
	c.result = messaging.SendResult{ID: id, Recipients: len(drafts), Count: len(drafts)}
	return c, nil
}

// batchChange appends a batch's messages and enqueues each.
type batchChange struct {
	engine  *Engine
	key     *idempotencyStage
	records []wal.Record
	entries []storage.Entry
	queues  []*queue
	result  messaging.SendResult
}

// Records implements [wal.Change].
func (c *batchChange) Records() []wal.Record { return c.records }

// Stage implements [wal.Change].
func (c *batchChange) Stage(tx *wal.Tx) {
	c.result.Sequence = tx.Sequence
	for i := range c.records {
		c.engine.enqueue(tx, c.queues[i], c.records[i].Message.Priority, tx.Sequence+uint64(i), c.entries[i], true)
	}
	c.key.put(tx, c.result)
}

// OnDurable implements [wal.Change].
func (c *batchChange) OnDurable() {}
