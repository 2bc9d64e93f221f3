package tables

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Writer adds puts and deletes to a [Batch]. A change can do nothing else with a batch:
// it cannot apply or empty it, or write the meta record. The methods do not fail, because
// a batch is in memory until it is applied.
type Writer struct {
	config *Config
	batch  *pebble.Batch
}

// Len returns the size of the batch in bytes.
func (w *Writer) Len() int { return w.batch.Len() }

// set adds a key and a value, which fill writes in place.
func (w *Writer) set(key []byte, valueLen int, fill func(dst []byte)) {
	op := w.batch.SetDeferred(len(key), valueLen)
	copy(op.Key, key)
	fill(op.Value)
	w.must(op.Finish())
}

// must ends the process after an error that only a bug in this package can cause.
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

// PutTime records the sequence at a time in Unix milliseconds.
func (w *Writer) PutTime(ms int64, seq uint64) {
	var key [9]byte
	w.set(schema.AppendNumberKey(key[:0], schema.TableTime, schema.TimeNumber(ms)), 8, func(dst []byte) { binary.BigEndian.PutUint64(dst, seq) })
}

// TrimLog removes the records below the first sequence and the times before floorTime.
// Each is one large range delete, so call it rarely.
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

// PutStage marks a broadcast's receivers as not committed yet. [Reader.Stages] finds the
// mark after a crash.
func (w *Writer) PutStage(id messaging.MessageID) {
	w.must(w.batch.Set(schema.IDKey(schema.TableStage, id), nil, nil))
}

// DeleteStage removes the mark of PutStage.
func (w *Writer) DeleteStage(id messaging.MessageID) {
	w.must(w.batch.Delete(schema.IDKey(schema.TableStage, id), nil))
}

// PutFanout records the progress of a fan-out.
func (w *Writer) PutFanout(f schema.Fanout) {
	w.set(schema.NumberKey(schema.TableFanout, f.Sequence), schema.FanoutLen, f.Encode)
}

// DeleteFanout removes the record of a finished fan-out.
func (w *Writer) DeleteFanout(seq uint64) {
	w.must(w.batch.Delete(schema.NumberKey(schema.TableFanout, seq), nil))
}

// PutEntry puts a message into a user's queue.
func (w *Writer) PutEntry(index schema.Index, user messaging.UserID, p messaging.Priority, seq uint64, e schema.Entry) {
	var key [2 + messaging.MaxIDLength + 9]byte
	var value [schema.MaxEntryLen]byte
	w.must(w.batch.Set(schema.AppendEntryKey(key[:0], index, user, p, seq), e.Append(value[:0]), nil))
}

// DeleteEntry removes a message from a user's queue.
func (w *Writer) DeleteEntry(index schema.Index, user messaging.UserID, p messaging.Priority, seq uint64) {
	op := w.batch.DeleteDeferred(schema.EntryKeyLen(user))
	schema.AppendEntryKey(op.Key[:0], index, user, p, seq)
	w.must(op.Finish())
}

// maxTimerKey is the maximal length of keys of tables d and e.
const maxTimerKey = 1 + 8 + 8 + 1 + messaging.MaxIDLength

// PutTimer records when an event of an entry happens.
func (w *Writer) PutTimer(what schema.Event, t schema.Timer, p messaging.Priority) {
	var key [maxTimerKey]byte
	w.must(w.batch.Set(schema.AppendTimerKey(key[:0], what, t), []byte{byte(p)}, nil))
}

// DeleteTimer removes a timer.
func (w *Writer) DeleteTimer(what schema.Event, t schema.Timer) {
	var key [maxTimerKey]byte
	w.must(w.batch.Delete(schema.AppendTimerKey(key[:0], what, t), nil))
}

// PutIdempotencyRecord records the result of the first call with an idempotency key, and
// when it may be removed.
func (w *Writer) PutIdempotencyRecord(scope [16]byte, key string, o schema.IdempotencyRecord) {
	w.must(w.batch.Set(schema.AppendIdempotencyKey(nil, scope, key), o.Append(nil), nil))
	w.must(w.batch.Set(schema.IdempotencyExpiryKey(o.Expires, scope, key), nil, nil))
}

// DeleteIdempotencyRecord removes an idempotency record and its expiry. If stale is set,
// the key was used again since, and only the old expiry is removed.
func (w *Writer) DeleteIdempotencyRecord(end schema.IdempotencyExpiry, stale bool) {
	w.must(w.batch.Delete(schema.IdempotencyExpiryKey(end.At, end.Scope, end.Key), nil))
	if !stale {
		w.must(w.batch.Delete(schema.AppendIdempotencyKey(nil, end.Scope, end.Key), nil))
	}
}

// PutQueueState writes a user's queue state. A zero state removes the key.
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
