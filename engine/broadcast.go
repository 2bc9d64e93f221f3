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
func (e *Engine) Broadcast(b messaging.Broadcast) (messaging.Receipt, error) {
	if err := e.admit(); err != nil {
		return messaging.Receipt{}, err
	}
	id, now, err := e.stamp()
	if err != nil {
		return messaging.Receipt{}, err
	}
	record := wal.Record{Message: messageOf(b.Draft, id, now), Recipients: uint32(b.Receivers.Len())} //nolint:gosec // at most a million
	var sequence uint64
	if b.Receivers.Len() <= messaging.ReceiversPerChunk {
		sequence, err = e.broadcastWhole(record, &b.Receivers)
	} else {
		sequence, err = e.broadcastStaged(record, &b.Receivers)
	}
	if err != nil {
		return messaging.Receipt{}, err
	}
	e.counters.accepted.Add(1)
	return messaging.Receipt{ID: id, Sequence: sequence, Recipients: b.Receivers.Len()}, nil
}

// broadcastWhole commits the record and all queue entries at once.
func (e *Engine) broadcastWhole(record wal.Record, receivers *messaging.Receivers) (uint64, error) {
	c := &broadcastChange{engine: e, record: record, receivers: receivers}
	for _, chunk := range receivers.Chunks() {
		list, err := messaging.DecodeReceivers(chunk)
		if err != nil {
			return 0, messaging.Internal(err)
		}
		if c.places, err = e.pinAll(list); err != nil {
			return 0, err
		}
	}
	if err := e.log.Commit(c); err != nil {
		e.unpinAll(c.places)
		return 0, err
	}
	return c.sequence, nil
}

// receiverPlace is a receiver of a broadcast with their queue, pinned.
type receiverPlace struct {
	queue *queue
	entry storage.Entry
}

func (e *Engine) pinAll(receivers []messaging.Receiver) ([]receiverPlace, error) {
	places := make([]receiverPlace, 0, len(receivers))
	for _, r := range receivers {
		q, err := e.queues.pin(r.User)
		if err != nil {
			e.unpinAll(places)
			return nil, internal(err)
		}
		places = append(places, receiverPlace{queue: q, entry: storage.Entry{Quoted: r.Quoted}})
	}
	return places, nil
}

func (e *Engine) unpinAll(places []receiverPlace) {
	for _, p := range places {
		e.queues.unpin(p.queue)
	}
}

func (e *Engine) publishAll(places []receiverPlace, commit uint64) {
	for _, p := range places {
		p.queue.published(commit)
		e.queues.unpin(p.queue)
	}
}

// broadcastChange is a message entering up to a chunk of queues.
type broadcastChange struct {
	engine    *Engine
	record    wal.Record
	receivers *messaging.Receivers
	places    []receiverPlace
	sequence  uint64
	commit    uint64
}

func (c *broadcastChange) Record() *wal.Record { return &c.record }

func (c *broadcastChange) Stage(tx *wal.Tx) {
	c.sequence, c.commit = tx.Sequence, tx.Commit
	for n, chunk := range c.receivers.Chunks() {
		tx.PutReceivers(c.record.Message.ID, n, chunk)
	}
	for _, p := range c.places {
		c.engine.enter(tx, p.queue, c.record.Message.Priority, tx.Sequence, p.entry)
	}
}

func (c *broadcastChange) Published() { c.engine.publishAll(c.places, c.commit) }

// broadcastStaged writes the receivers first, where nobody looks, and then
// makes the record durable in one small commit, which is the commit point: what
// a crash before it leaves has a stage mark and is removed at the next open.
func (e *Engine) broadcastStaged(record wal.Record, receivers *messaging.Receivers) (uint64, error) {
	batch := e.store.NewBatch()
	defer batch.Close()
	batch.PutStage(record.Message.ID)
	for n, chunk := range receivers.Chunks() {
		batch.PutReceivers(record.Message.ID, n, chunk)
		if batch.Len() >= stageBytes {
			batch.Commit()
			batch.Reset()
		}
	}
	batch.Commit()
	c := &stagedChange{engine: e, record: record}
	if err := e.log.Commit(c); err != nil {
		e.unstage(record.Message.ID)
		return 0, err
	}
	return c.sequence, nil
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
type stagedChange struct {
	engine   *Engine
	record   wal.Record
	sequence uint64
}

func (c *stagedChange) Record() *wal.Record { return &c.record }

func (c *stagedChange) Stage(tx *wal.Tx) {
	c.sequence = tx.Sequence
	tx.DeleteStage(c.record.Message.ID)
	tx.PutFanout(storage.Fanout{Sequence: tx.Sequence})
	c.engine.unfanned.add(tx.Sequence)
}

func (c *stagedChange) Published() {
	select {
	case c.engine.fanouts <- struct{}{}:
	default:
	}
}
