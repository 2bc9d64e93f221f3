package engine

import (
	"errors"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// stageBytes bounds the receivers that are staged in one commit.
const stageBytes = 8 << 20

// Broadcast makes one message durable for many users: for all of them, or for none. With
// up to [messaging.ReceiversPerChunk] receivers, the message is in their queues when
// Broadcast returns. With more, [Engine.Fanout] enqueues it afterwards.
func (e *Engine) Broadcast(b messaging.Broadcast, o messaging.IdempotencyKey) (messaging.SendResult, error) {
	return e.idempotent(o, func(key *idempotencyStage) (messaging.SendResult, error) {
		if err := e.admit(); err != nil {
			return messaging.SendResult{}, err
		}
		id, now, err := e.stamp()
		if err != nil {
			return messaging.SendResult{}, err
		}
		s := broadcastCommit{engine: e, key: key, result: messaging.SendResult{ID: id, Recipients: b.Receivers.Len(), Count: 1}}
		record := &s.records[0]
		record.Recipients = uint32(b.Receivers.Len()) //nolint:gosec // at most a million
		if record.Message, s.entry, err = e.prepare(b.Draft, id, now); err != nil {
			return messaging.SendResult{}, err
		}
		if b.Receivers.Len() <= messaging.ReceiversPerChunk {
			return s.whole(&b.Receivers)
		}
		return s.staged(&b.Receivers)
	})
}

// broadcastCommit is a broadcast that is being committed.
type broadcastCommit struct {
	engine  *Engine
	key     *idempotencyStage
	records [1]wal.Record
	entry   storage.Entry // except Quoted, which differs by receiver
	result  messaging.SendResult
}

// whole commits the record and all queue entries in one commit.
func (s *broadcastCommit) whole(receivers *messaging.Receivers) (messaging.SendResult, error) {
	c := &broadcastChange{commit: s, receivers: receivers}
	for _, chunk := range receivers.Chunks() {
		list, err := messaging.DecodeReceivers(chunk)
		if err != nil {
			return messaging.SendResult{}, messaging.Internal(err)
		}
		if c.targets, err = s.engine.pinAll(list); err != nil {
			return messaging.SendResult{}, err
		}
	}
	defer s.engine.unpinTargets(c.targets)
	if err := s.engine.log.Commit(c); err != nil {
		return messaging.SendResult{}, err
	}
	s.engine.countAccepted(receivers.Len())
	return s.result, nil
}

// fanoutTarget is a receiver of a broadcast with its queue, pinned.
type fanoutTarget struct {
	queue  *queue
	quoted bool
}

func (e *Engine) pinAll(receivers []messaging.Receiver) ([]fanoutTarget, error) {
	users := make([]messaging.UserID, len(receivers))
	for i, r := range receivers {
		users[i] = r.User
	}
	queues, err := e.queues.pinAll(users, true)
	if err != nil {
		return nil, internal(err)
	}
	targets := make([]fanoutTarget, len(receivers))
	for i, r := range receivers {
		targets[i] = fanoutTarget{queue: queues[i], quoted: r.Quoted}
	}
	return targets, nil
}

func (e *Engine) unpinTargets(targets []fanoutTarget) {
	for _, p := range targets {
		e.queues.unpin(p.queue)
	}
}

// enqueueAll puts a broadcast into receivers' queues.
func (e *Engine) enqueueAll(tx *wal.Tx, targets []fanoutTarget, p messaging.Priority, seq uint64, entry storage.Entry, fresh bool) {
	for _, at := range targets {
		entry.Quoted = at.quoted
		e.enqueue(tx, at.queue, p, seq, entry, fresh)
	}
}

// broadcastChange appends a broadcast and enqueues it for up to a chunk of receivers.
type broadcastChange struct {
	commit    *broadcastCommit
	receivers *messaging.Receivers
	targets   []fanoutTarget
}

// Records implements [wal.Change].
func (c *broadcastChange) Records() []wal.Record { return c.commit.records[:] }

// Stage implements [wal.Change].
func (c *broadcastChange) Stage(tx *wal.Tx) {
	s := c.commit
	m := &s.records[0].Message
	s.result.Sequence = tx.Sequence
	for n, chunk := range c.receivers.Chunks() {
		tx.PutReceivers(m.ID, n, chunk)
	}
	s.engine.enqueueAll(tx, c.targets, m.Priority, tx.Sequence, s.entry, true)
	s.key.put(tx, s.result)
}

// OnDurable implements [wal.Change].
func (c *broadcastChange) OnDurable() {}

// staged writes the receivers first, where no reader looks, and then commits the record in
// one small commit, which is the commit point. If a crash comes before it, the receivers
// have a stage mark, and the next open removes them.
func (s *broadcastCommit) staged(receivers *messaging.Receivers) (messaging.SendResult, error) {
	id := s.records[0].Message.ID
	stage := &stageChange{id: id}
	for n, chunk := range receivers.Chunks() {
		stage.chunks = append(stage.chunks, stagedChunk{n, chunk})
		if stage.bytes += len(chunk); stage.bytes >= stageBytes {
			if err := s.engine.log.CommitUnbounded(stage); err != nil {
				return messaging.SendResult{}, err
			}
			stage = &stageChange{id: id}
		}
	}
	if err := s.engine.log.CommitUnbounded(stage); err != nil {
		return messaging.SendResult{}, err
	}
	if err := s.engine.log.Commit(&stagedChange{s}); err != nil {
		return messaging.SendResult{}, errors.Join(err, s.engine.unstage(id))
	}
	s.engine.countAccepted(receivers.Len())
	return s.result, nil
}

// stageChange writes receivers of a large broadcast before it is committed.
type stageChange struct {
	id     messaging.MessageID
	chunks []stagedChunk
	bytes  int
}

type stagedChunk struct {
	number    uint32
	receivers []byte
}

// Records implements [wal.Change]. It returns none.
func (c *stageChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *stageChange) Stage(tx *wal.Tx) {
	tx.PutStage(c.id)
	for _, chunk := range c.chunks {
		tx.PutReceivers(c.id, chunk.number, chunk.receivers)
	}
}

// OnDurable implements [wal.Change].
func (c *stageChange) OnDurable() {}

// unstage removes the receivers of a broadcast that was not committed. If the service
// stops first, the next start does it.
func (e *Engine) unstage(id messaging.MessageID) error {
	err := e.log.CommitUnbounded(&unstageChange{id})
	if messaging.CodeOf(err) == messaging.CodeShuttingDown {
		return nil
	}
	return err
}

// unstageChange removes what was staged of a broadcast.
type unstageChange struct{ id messaging.MessageID }

// Records implements [wal.Change]. It returns none.
func (c *unstageChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *unstageChange) Stage(tx *wal.Tx) {
	tx.DeleteReceivers(c.id)
	tx.DeleteStage(c.id)
}

// OnDurable implements [wal.Change].
func (c *unstageChange) OnDurable() {}

// dropStages removes the receivers of broadcasts that were interrupted before their commit
// point.
func (e *Engine) dropStages() error {
	ids, err := e.store.Stages()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := e.unstage(id); err != nil {
			return err
		}
	}
	return nil
}

// stagedChange is the commit point of a large broadcast.
type stagedChange struct{ commit *broadcastCommit }

// Records implements [wal.Change].
func (c *stagedChange) Records() []wal.Record { return c.commit.records[:] }

// Stage implements [wal.Change].
func (c *stagedChange) Stage(tx *wal.Tx) {
	s := c.commit
	s.result.Sequence = tx.Sequence
	tx.DeleteStage(s.records[0].Message.ID)
	tx.PutFanout(storage.Fanout{Sequence: tx.Sequence})
	s.engine.pendingFanouts.add(storage.Fanout{Sequence: tx.Sequence}, s.records[0].Recipients)
	s.key.put(tx, s.result)
}

// OnDurable implements [wal.Change].
func (c *stagedChange) OnDurable() { c.commit.engine.wakeFanout() }
