package tables

import (
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Record returns a copy of a record, or [ErrNotFound].
func (r Reader) Record(seq uint64) (record []byte, err error) {
	var key [9]byte
	err = r.get(schema.AppendNumberKey(key[:0], schema.TableLog, seq), func(v []byte) error {
		record = slices.Clone(v)
		return nil
	})
	return record, err
}

// RecordReader reads several records, fastest in ascending order, because it keeps its
// position. It holds an iterator open, so it must not be kept for longer than one page.
// It is not safe for concurrent use.
type RecordReader struct{ iter *pebble.Iterator }

// RecordReader returns a new record reader.
func (r Reader) RecordReader() (*RecordReader, error) {
	iter, err := r.from.NewIter(&pebble.IterOptions{LowerBound: []byte{schema.TableLog}, UpperBound: []byte{schema.TableLog + 1}})
	if err != nil {
		return nil, readError(err)
	}
	return &RecordReader{iter}, nil
}

// Records calls each for the records in [from, to), in order. The bytes are valid during
// the call.
func (r *RecordReader) Records(from, to uint64, each func(seq uint64, record []byte)) error {
	var key [9]byte
	for ok := r.iter.SeekGE(schema.AppendNumberKey(key[:0], schema.TableLog, from)); ok; ok = r.iter.Next() {
		seq, err := schema.ParseNumberKey(r.iter.Key())
		if err != nil {
			return damagedKey("l", err)
		}
		if seq >= to {
			return nil
		}
		value, err := r.iter.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		each(seq, value)
		if seq+1 >= to {
			return nil
		}
	}
	if err := r.iter.Error(); err != nil {
		return readError(err)
	}
	return nil
}

// Close closes the reader.
func (r *RecordReader) Close() error {
	if err := r.iter.Close(); err != nil {
		return readError(err)
	}
	return nil
}

// Records calls each for the records in [from, to), in order, until each returns false.
// The bytes are valid during the call.
func (r Reader) Records(from, to uint64, each func(seq uint64, record []byte) (bool, error)) error {
	return r.scan(schema.NumberKey(schema.TableLog, from), schema.NumberKey(schema.TableLog, to), func(key, value []byte) (bool, error) {
		seq, err := schema.ParseNumberKey(key)
		if err != nil {
			return false, damagedKey("l", err)
		}
		return each(seq, value)
	})
}

// Receivers returns one chunk of a broadcast's receivers, or [ErrNotFound].
func (r Reader) Receivers(id messaging.MessageID, chunk uint32) (receivers []messaging.Receiver, err error) {
	err = r.get(schema.ReceiversKey(id, chunk), func(v []byte) error {
		receivers, err = messaging.DecodeReceivers(v)
		return err
	})
	return receivers, err
}

// SequenceBefore returns the sequence of the last entry in the time index that is not
// after ms, or 0.
func (r Reader) SequenceBefore(ms int64) (seq uint64, err error) {
	err = r.lastOf([]byte{schema.TableTime}, schema.NumberKey(schema.TableTime, schema.TimeNumber(ms)+1), func(_, value []byte) error {
		if len(value) != 8 {
			return damagedKey("t", schema.ErrValue)
		}
		seq = binary.BigEndian.Uint64(value)
		return nil
	})
	return seq, err
}

// LastTime returns the latest time in the time index, or 0.
func (r Reader) LastTime() (ms int64, err error) {
	err = r.lastOf([]byte{schema.TableTime}, []byte{schema.TableTime + 1}, func(key, _ []byte) error {
		n, err := schema.ParseNumberKey(key)
		if err != nil {
			return damagedKey("t", err)
		}
		ms = int64(n) //nolint:gosec // written from an int64
		return nil
	})
	return ms, err
}

// Stages returns the broadcasts whose receivers were staged but never committed.
func (r Reader) Stages() (ids []messaging.MessageID, err error) {
	err = r.scan([]byte{schema.TableStage}, []byte{schema.TableStage + 1}, func(key, _ []byte) (bool, error) {
		if len(key) != 17 {
			return false, damagedKey("s", schema.ErrKey)
		}
		ids = append(ids, messaging.MessageID(key[1:]))
		return true, nil
	})
	return ids, err
}

// Fanouts returns the unfinished fan-outs, oldest first.
func (r Reader) Fanouts() (jobs []schema.Fanout, err error) {
	err = r.scan([]byte{schema.TableFanout}, []byte{schema.TableFanout + 1}, func(key, value []byte) (bool, error) {
		job, err := schema.DecodeFanout(key, value)
		if err != nil {
			return false, damagedKey("f", err)
		}
		jobs = append(jobs, job)
		return true, nil
	})
	return jobs, err
}
