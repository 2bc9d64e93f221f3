package storage

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
)

// Batch gathers one change of the database: all of it becomes durable at once,
// by [Batch.Commit], or none of it does. It is not safe for concurrent use.
//
// The methods that write cannot fail: a batch lives in memory until Commit.
type Batch struct {
	store *Store
	batch *pebble.Batch
}

// NewBatch gives an empty batch, for one commit. Close it when done, committed
// or not.
func (s *Store) NewBatch() *Batch {
	return &Batch{store: s, batch: s.db.NewBatch()}
}

// Len is the size of the batch in bytes.
func (b *Batch) Len() int { return b.batch.Len() }

// Commit makes the batch durable: it returns after the fsync. A write or sync
// that fails ends the process (see [Config.Fatal]), because what a disk holds
// after a failed fsync cannot be known from here; no error comes back.
func (b *Batch) Commit() {
	b.Apply()
	b.Wait()
}

// Apply is the first half of Commit: the batch is in its place, and readers of
// the store see it, but it is not durable before Wait has returned. Batches
// become durable in the order in which they were applied.
func (b *Batch) Apply() {
	if err := b.store.db.ApplyNoSyncWait(b.batch, pebble.Sync); err != nil {
		b.store.fatal("write the store", err)
	}
}

// Wait is the second half of Commit: it returns when the batch is durable.
func (b *Batch) Wait() {
	if err := b.batch.SyncWait(); err != nil {
		b.store.fatal("sync the store", err)
	}
}

// Reset empties the batch for its next use.
func (b *Batch) Reset() { b.batch.Reset() }

// Close gives the batch's memory back.
func (b *Batch) Close() {
	if err := b.batch.Close(); err != nil {
		b.store.logger.Error("close a batch", "error", err)
	}
}

// set finishes a deferred operation whose key and value were filled in.
func (b *Batch) set(key []byte, valueLen int, fill func(dst []byte)) {
	op := b.batch.SetDeferred(len(key), valueLen)
	copy(op.Key, key)
	fill(op.Value)
	b.must(op.Finish())
}

// must stops the process on what only a fault in this package can cause.
func (b *Batch) must(err error) {
	if err != nil {
		b.store.fatal("fill a batch", err)
	}
}

// PutMeta writes m, which every commit does.
func (b *Batch) PutMeta(m Meta) {
	b.set([]byte{tableMeta}, metaLen, m.encode)
}

// PutRecord writes a record of size bytes, which fill writes in place.
func (b *Batch) PutRecord(seq uint64, size int, fill func(dst []byte)) {
	var key [9]byte
	b.set(appendNumberKey(key[:0], tableLog, seq), size, fill)
}

// PutTime notes which sequence was reached at a time in Unix milliseconds.
func (b *Batch) PutTime(ms int64, seq uint64) {
	var key [9]byte
	b.set(appendNumberKey(key[:0], tableTime, timeNumber(ms)), 8, func(dst []byte) { putUint64(dst, seq) })
}

// TrimLog removes records, and the times that point at them, below floor. It
// is one large range delete of each: call it seldom.
func (b *Batch) TrimLog(floor uint64, floorTime int64) {
	b.must(b.batch.DeleteRange(numberKey(tableLog, 0), numberKey(tableLog, floor), nil))
	b.must(b.batch.DeleteRange(numberKey(tableTime, 0), numberKey(tableTime, timeNumber(floorTime)), nil))
}

// PutReceivers writes one chunk of a broadcast's receivers.
func (b *Batch) PutReceivers(id messaging.MessageID, chunk uint32, data []byte) {
	b.must(b.batch.Set(receiversKey(id, chunk), data, nil))
}

// DeleteReceivers removes all receivers of a broadcast.
func (b *Batch) DeleteReceivers(id messaging.MessageID) {
	prefix := idKey(tableReceivers, id)
	b.must(b.batch.DeleteRange(prefix, prefixEnd(prefix), nil))
}

// PutStage marks a broadcast's receivers as not committed yet; [Store.Stages]
// finds the mark after a crash.
func (b *Batch) PutStage(id messaging.MessageID) {
	b.must(b.batch.Set(idKey(tableStage, id), nil, nil))
}

// DeleteStage removes that mark.
func (b *Batch) DeleteStage(id messaging.MessageID) {
	b.must(b.batch.Delete(idKey(tableStage, id), nil))
}

// PutFanout notes how far a fan-out has come.
func (b *Batch) PutFanout(f Fanout) {
	b.set(numberKey(tableFanout, f.Sequence), fanoutLen, f.encode)
}

// DeleteFanout removes the note when it is done.
func (b *Batch) DeleteFanout(seq uint64) {
	b.must(b.batch.Delete(numberKey(tableFanout, seq), nil))
}

// PutEntry puts a message into a user's queue.
func (b *Batch) PutEntry(user messaging.UserID, p messaging.Priority, seq uint64, e Entry) {
	var key [2 + messaging.MaxIDLength + 9]byte
	b.set(appendEntryKey(key[:0], user, p, seq), entryLen, e.encode)
}

// DeleteEntry takes a message out of a user's queue.
func (b *Batch) DeleteEntry(user messaging.UserID, p messaging.Priority, seq uint64) {
	op := b.batch.DeleteDeferred(entryKeyLen(user))
	appendEntryKey(op.Key[:0], user, p, seq)
	b.must(op.Finish())
}

// PutUser writes what a user's queue amounts to; an empty queue has no entry.
func (b *Batch) PutUser(user messaging.UserID, u *User) {
	var key [2 + messaging.MaxIDLength]byte
	k := appendUser(key[:0], tableUser, user)
	if u.Total() == 0 && u.Heads == [messaging.Priorities]uint64{} {
		b.must(b.batch.Delete(k, nil))
		return
	}
	var value [maxUserLen]byte
	b.must(b.batch.Set(k, u.append(value[:0]), nil))
}
