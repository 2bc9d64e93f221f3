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
	write := func() error { return b.store.db.ApplyNoSyncWait(b.batch, pebble.Sync) }
	if b.store.config.NoSync {
		write = func() error { return b.store.db.Apply(b.batch, pebble.NoSync) }
	}
	if err := write(); err != nil {
		b.store.fatal("write the store", err)
	}
}

// Wait is the second half of Commit: it returns when the batch is durable.
func (b *Batch) Wait() {
	if b.store.config.NoSync {
		return
	}
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
func (b *Batch) PutEntry(shelf Shelf, user messaging.UserID, p messaging.Priority, seq uint64, e Entry) {
	var key [2 + messaging.MaxIDLength + 9]byte
	var value [maxEntryLen]byte
	b.must(b.batch.Set(appendEntryKey(key[:0], shelf, user, p, seq), e.append(value[:0]), nil))
}

// DeleteEntry takes a message out of a user's queue.
func (b *Batch) DeleteEntry(shelf Shelf, user messaging.UserID, p messaging.Priority, seq uint64) {
	op := b.batch.DeleteDeferred(entryKeyLen(user))
	appendEntryKey(op.Key[:0], shelf, user, p, seq)
	b.must(op.Finish())
}

// DeleteEntries takes all messages out of a user's queue, those before it in
// the batch included. It is two range deletes: do not call it for a few.
func (b *Batch) DeleteEntries(user messaging.UserID) {
	for _, shelf := range []Shelf{Queued, Delayed} {
		prefix := appendUser(nil, byte(shelf), user)
		b.must(b.batch.DeleteRange(prefix, prefixEnd(prefix), nil))
	}
}

// maxTimerKey is the length of the longest key of tables d and e.
const maxTimerKey = 1 + 8 + 8 + 1 + messaging.MaxIDLength

// PutTimer notes when something happens to an entry.
func (b *Batch) PutTimer(what Event, t Timer, p messaging.Priority) {
	var key [maxTimerKey]byte
	b.must(b.batch.Set(appendTimerKey(key[:0], what, t), []byte{byte(p)}, nil))
}

// DeleteTimer removes such a note.
func (b *Batch) DeleteTimer(what Event, t Timer) {
	var key [maxTimerKey]byte
	b.must(b.batch.Delete(appendTimerKey(key[:0], what, t), nil))
}

// PutOnce notes what was answered to the first call with an idempotency key,
// and when that may be forgotten.
func (b *Batch) PutOnce(scope [16]byte, key string, o OnceRecord) {
	b.must(b.batch.Set(appendOnceKey(nil, scope, key), o.append(nil), nil))
	b.must(b.batch.Set(onceEndKey(o.Expires, scope, key), nil, nil))
}

// DeleteOnce forgets a key; stale says that only its note of when to go is
// left, because it was used anew since.
func (b *Batch) DeleteOnce(end OnceEnd, stale bool) {
	b.must(b.batch.Delete(onceEndKey(end.At, end.Scope, end.Key), nil))
	if !stale {
		b.must(b.batch.Delete(appendOnceKey(nil, end.Scope, end.Key), nil))
	}
}

// PutUser writes what a user's queue amounts to; an empty queue has no entry.
func (b *Batch) PutUser(user messaging.UserID, u *User) {
	var key [2 + messaging.MaxIDLength]byte
	k := appendUser(key[:0], tableUser, user)
	if *u == (User{}) {
		b.must(b.batch.Delete(k, nil))
		return
	}
	var value [maxUserLen]byte
	b.must(b.batch.Set(k, u.append(value[:0]), nil))
}
