package tables

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Writer adds puts and deletes to a [Batch]. That is all that a change may do
// with one: it can neither apply nor empty it, nor write the meta record. The
// methods cannot fail: a batch is in memory until it is applied.
type Writer struct {
	config *Config
	batch  *pebble.Batch
}

// Len is the size of the batch in bytes.
func (w *Writer) Len() int { return w.batch.Len() }

// set finishes a deferred operation whose key and value were filled in.
func (w *Writer) set(key []byte, valueLen int, fill func(dst []byte)) {
	op := w.batch.SetDeferred(len(key), valueLen)
	copy(op.Key, key)
	fill(op.Value)
	w.must(op.Finish())
}

// must stops the process on what only a fault in this package can cause.
func (w *Writer) must(err error) {
	if err != nil {
		w.config.Fatal("fill a batch", err)
	}
}

// PutRecord writes a record of size bytes, which fill writes in place.
func (w *Writer) PutRecord(seq uint64, size int, fill func(dst []byte)) {
	var key [9]byte
	w.set(schema.AppendNumberKey(key[:0], schema.TableLog, seq), size, fill)
}

// PutTime notes which sequence was reached at a time in Unix milliseconds.
func (w *Writer) PutTime(ms int64, seq uint64) {
	var key [9]byte
	w.set(schema.AppendNumberKey(key[:0], schema.TableTime, schema.TimeNumber(ms)), 8, func(dst []byte) { binary.BigEndian.PutUint64(dst, seq) })
}

// TrimLog removes records, and the times that point at them, below the first sequence. It
// is one large range delete of each: call it seldom.
func (w *Writer) TrimLog(first uint64, floorTime int64) {
	w.must(w.batch.DeleteRange(schema.NumberKey(schema.TableLog, 0), schema.NumberKey(schema.TableLog, first), nil))
	w.must(w.batch.DeleteRange(schema.NumberKey(schema.TableTime, 0), schema.NumberKey(schema.TableTime, schema.TimeNumber(floorTime)), nil))
}

// PutReceivers writes one chunk of a broadcast's receivers.
func (w *Writer) PutReceivers(id messaging.MessageID, chunk uint32, data []byte) {
	w.must(w.batch.Set(schema.ReceiversKey(id, chunk), data, nil))
}

// DeleteReceivers removes all receivers of a broadcast.
func (w *Writer) DeleteReceivers(id messaging.MessageID) {
	prefix := schema.IDKey(schema.TableReceivers, id)
	w.must(w.batch.DeleteRange(prefix, schema.PrefixEnd(prefix), nil))
}

// PutStage marks a broadcast's receivers as not committed yet; [Store.Stages]
// finds the mark after a crash.
func (w *Writer) PutStage(id messaging.MessageID) {
	w.must(w.batch.Set(schema.IDKey(schema.TableStage, id), nil, nil))
}

// DeleteStage removes that mark.
func (w *Writer) DeleteStage(id messaging.MessageID) {
	w.must(w.batch.Delete(schema.IDKey(schema.TableStage, id), nil))
}

// PutFanout notes how far a fan-out has come.
func (w *Writer) PutFanout(f schema.Fanout) {
	w.set(schema.NumberKey(schema.TableFanout, f.Sequence), schema.FanoutLen, f.Encode)
}

// DeleteFanout removes the note when it is done.
func (w *Writer) DeleteFanout(seq uint64) {
	w.must(w.batch.Delete(schema.NumberKey(schema.TableFanout, seq), nil))
}

// PutEntry puts a message into a user's queue.
func (w *Writer) PutEntry(index schema.Index, user messaging.UserID, p messaging.Priority, seq uint64, e schema.Entry) {
	var key [2 + messaging.MaxIDLength + 9]byte
	var value [schema.MaxEntryLen]byte
	w.must(w.batch.Set(schema.AppendEntryKey(key[:0], index, user, p, seq), e.Append(value[:0]), nil))
}

// DeleteEntry takes a message out of a user's queue.
func (w *Writer) DeleteEntry(index schema.Index, user messaging.UserID, p messaging.Priority, seq uint64) {
	op := w.batch.DeleteDeferred(schema.EntryKeyLen(user))
	schema.AppendEntryKey(op.Key[:0], index, user, p, seq)
	w.must(op.Finish())
}

// maxTimerKey is the length of the longest key of tables d and e.
const maxTimerKey = 1 + 8 + 8 + 1 + messaging.MaxIDLength

// PutTimer notes when something happens to an entry.
func (w *Writer) PutTimer(what schema.Event, t schema.Timer, p messaging.Priority) {
	var key [maxTimerKey]byte
	w.must(w.batch.Set(schema.AppendTimerKey(key[:0], what, t), []byte{byte(p)}, nil))
}

// DeleteTimer removes such a note.
func (w *Writer) DeleteTimer(what schema.Event, t schema.Timer) {
	var key [maxTimerKey]byte
	w.must(w.batch.Delete(schema.AppendTimerKey(key[:0], what, t), nil))
}

// PutIdempotencyRecord notes what was answered to the first call with an idempotency key,
// and when that may be forgotten.
func (w *Writer) PutIdempotencyRecord(scope [16]byte, key string, o schema.IdempotencyRecord) {
	w.must(w.batch.Set(schema.AppendIdempotencyKey(nil, scope, key), o.Append(nil), nil))
	w.must(w.batch.Set(schema.IdempotencyExpiryKey(o.Expires, scope, key), nil, nil))
}

// DeleteIdempotencyRecord forgets a key; stale says that only its note of when to go is
// left, because it was used again since.
func (w *Writer) DeleteIdempotencyRecord(end schema.IdempotencyExpiry, stale bool) {
	w.must(w.batch.Delete(schema.IdempotencyExpiryKey(end.At, end.Scope, end.Key), nil))
	if !stale {
		w.must(w.batch.Delete(schema.AppendIdempotencyKey(nil, end.Scope, end.Key), nil))
	}
}

// PutQueueState writes what a user's queue amounts to; an empty queue has no entry.
func (w *Writer) PutQueueState(user messaging.UserID, u *schema.QueueState) {
	var key [2 + messaging.MaxIDLength]byte
	k := schema.AppendUserID(key[:0], schema.TableUser, user)
	if *u == (schema.QueueState{}) {
		w.must(w.batch.Delete(k, nil))
		return
	}
	var value [schema.MaxQueueStateLen]byte
	w.must(w.batch.Set(k, u.Append(value[:0]), nil))
}
