package engine

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// stageBytes bounds the receivers that are staged in one batch.
const stageBytes = 8 << 20

// Broadcast makes one message durable for many users: for all of them, or for
// none. Up to [messaging.ReceiversPerChunk] users find it in their queues when
// it is answered; more, as fast as [Engine.Fanout] gets it there.
func (e *Engine) Broadcast(b messaging.Broadcast, o messaging.Once) (messaging.Receipt, error) {
	return e.once(o, func(once *onceStage) (messaging.Receipt, error) {
		if err := e.admit(); err != nil {
			return messaging.Receipt{}, err
		}
		id, now, err := e.stamp()
		if err != nil {
			return messaging.Receipt{}, err
		}
		s := shout{engine: e, once: once, receipt: messaging.Receipt{ID: id, Recipients: b.Receivers.Len(), Count: 1}}
		record := &s.records[0]
		record.Recipients = uint32(b.Receivers.Len()) //nolint:gosec // at most a million
		if record.Message, s.entry, err = e.prepare(b.Draft, id, now); err != nil {
			return messaging.Receipt{}, err
		}
		if b.Receivers.Len() <= messaging.ReceiversPerChunk {
			return s.whole(&b.Receivers)
		}
		return s.staged(&b.Receivers)
	})
}

// shout is a broadcast on its way to the log.
type shout struct {
	engine  *Engine
	once    *onceStage
	records [1]wal.Record
	entry   storage.Entry // but for how a receiver is written
	receipt messaging.Receipt
}

// whole commits the record and all queue entries at once.
func (s *shout) whole(receivers *messaging.Receivers) (messaging.Receipt, error) {
	c := &broadcastChange{shout: s, receivers: receivers}
	for _, chunk := range receivers.Chunks() {
		list, err := messaging.DecodeReceivers(chunk)
		if err != nil {
			return messaging.Receipt{}, messaging.Internal(err)
		}
		if c.places, err = s.engine.pinAll(list); err != nil {
			return messaging.Receipt{}, err
		}
	}
	defer s.engine.unpinPlaces(c.places)
	if err := s.engine.log.Commit(c); err != nil {
		return messaging.Receipt{}, err
	}
	s.engine.counters.accepted.Add(1)
	return s.receipt, nil
}

// receiverPlace is a receiver of a broadcast with their queue, pinned.
type receiverPlace struct {
	queue  *queue
	quoted bool
}

func (e *Engine) pinAll(receivers []messaging.Receiver) ([]receiverPlace, error) {
	users := make([]messaging.UserID, len(receivers))
	for i, r := range receivers {
		users[i] = r.User
	}
	queues, err := e.queues.pinAll(users, true)
	if err != nil {
		return nil, internal(err)
	}
	places := make([]receiverPlace, len(receivers))
	for i, r := range receivers {
		places[i] = receiverPlace{queue: queues[i], quoted: r.Quoted}
	}
	return places, nil
}

func (e *Engine) unpinPlaces(places []receiverPlace) {
	for _, p := range places {
		e.queues.unpin(p.queue)
	}
}

// enterAll puts a broadcast into receivers' queues.
func (e *Engine) enterAll(tx *wal.Tx, places []receiverPlace, p messaging.Priority, seq uint64, entry storage.Entry, fresh bool) {
	for _, at := range places {
		entry.Quoted = at.quoted
		e.enter(tx, at.queue, p, seq, entry, fresh)
	}
}

// broadcastChange is a message entering up to a chunk of queues.
type broadcastChange struct {
	shout     *shout
	receivers *messaging.Receivers
	places    []receiverPlace
}

// Records implements [wal.Change].
func (c *broadcastChange) Records() []wal.Record { return c.shout.records[:] }

// Stage implements [wal.Change].
func (c *broadcastChange) Stage(tx *wal.Tx) {
	s := c.shout
	m := &s.records[0].Message
	s.receipt.Sequence = tx.Sequence
	for n, chunk := range c.receivers.Chunks() {
		tx.PutReceivers(m.ID, n, chunk)
	}
	s.engine.enterAll(tx, c.places, m.Priority, tx.Sequence, s.entry, true)
	s.once.put(tx, s.receipt)
}

// Published implements [wal.Change].
func (c *broadcastChange) Published() {}

// staged writes the receivers first, where nobody looks, and then makes the
// record durable in one small commit, which is the commit point: what a crash
// before it leaves has a stage mark and is removed at the next open.
func (s *shout) staged(receivers *messaging.Receivers) (messaging.Receipt, error) {
	id := s.records[0].Message.ID
	batch := s.engine.store.NewBatch()
	defer batch.Close()
	batch.PutStage(id)
	for n, chunk := range receivers.Chunks() {
		batch.PutReceivers(id, n, chunk)
		if batch.Len() >= stageBytes {
			batch.Commit()
			batch.Reset()
		}
	}
	batch.Commit()
	if err := s.engine.log.Commit(&stagedChange{s}); err != nil {
		s.engine.unstage(id)
		return messaging.Receipt{}, err
	}
	s.engine.counters.accepted.Add(1)
	return s.receipt, nil
}

// unstage removes the receivers of a broadcast that was not committed.
func (e *Engine) unstage(id messaging.MessageID) {
	batch := e.store.NewBatch()
	defer batch.Close()
	batch.DeleteReceivers(id)
	batch.DeleteStage(id)
	batch.Commit()
}

// dropStages removes what broadcasts left that were cut off before their
// commit point.
func (e *Engine) dropStages() error {
	ids, err := e.store.Stages()
	if err != nil {
		return err
	}
	for _, id := range ids {
		e.unstage(id)
	}
	return nil
}

// stagedChange is the commit point of a large broadcast.
type stagedChange struct{ shout *shout }

// Records implements [wal.Change].
func (c *stagedChange) Records() []wal.Record { return c.shout.records[:] }

// Stage implements [wal.Change].
func (c *stagedChange) Stage(tx *wal.Tx) {
	s := c.shout
	s.receipt.Sequence = tx.Sequence
	tx.DeleteStage(s.records[0].Message.ID)
	tx.PutFanout(storage.Fanout{Sequence: tx.Sequence})
	s.engine.unfanned.add(tx.Sequence)
	s.once.put(tx, s.receipt)
}

// Published implements [wal.Change].
func (c *stagedChange) Published() { c.shout.engine.wakeFanout() }
