package storage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
)

// ErrNotFound says that a key is not there.
var ErrNotFound = errors.New("not found")

// get calls use with the value of a key while the value is valid.
func (s *Store) get(key []byte, use func(value []byte) error) error {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return ErrNotFound
	}
	if err != nil {
		return s.readError(err)
	}
	err = use(value)
	return errors.Join(err, closer.Close())
}

// readError marks what Pebble calls corrupt as damage.
func (s *Store) readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("read the store: %w", err)
}

func damagedKey(table string, err error) error {
	return fmt.Errorf("%w: table %s: %w", ErrDamaged, table, err)
}

func (s *Store) readMeta() (m Meta, err error) {
	err = s.get([]byte{tableMeta}, func(v []byte) error {
		m, err = decodeMeta(v)
		return err
	})
	return m, err
}

// Record gives a copy of a record, or [ErrNotFound].
func (s *Store) Record(seq uint64) (record []byte, err error) {
	var key [9]byte
	err = s.get(appendNumberKey(key[:0], tableLog, seq), func(v []byte) error {
		record = slices.Clone(v)
		return nil
	})
	return record, err
}

// RecordReader reads several records, best in their order: it keeps its place in
// the store between them. It holds an iterator open, so it must not outlive a
// page. It is not safe for concurrent use.
type RecordReader struct {
	store *Store
	iter  *pebble.Iterator
}

// RecordReader begins to read records.
func (s *Store) RecordReader() (*RecordReader, error) {
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableLog}, UpperBound: []byte{tableLog + 1}})
	if err != nil {
		return nil, s.readError(err)
	}
	return &RecordReader{s, iter}, nil
}

// Records calls each for the records from sequence from up to, not including, to,
// in order. The bytes are valid during the call.
func (r *RecordReader) Records(from, to uint64, each func(seq uint64, record []byte)) error {
	var key [9]byte
	for ok := r.iter.SeekGE(appendNumberKey(key[:0], tableLog, from)); ok; ok = r.iter.Next() {
		seq, err := parseNumberKey(r.iter.Key())
		if err != nil {
			return damagedKey("l", err)
		}
		if seq >= to {
			return nil
		}
		value, err := r.iter.ValueAndErr()
		if err != nil {
			return r.store.readError(err)
		}
		each(seq, value)
		if seq+1 >= to {
			return nil
		}
	}
	if err := r.iter.Error(); err != nil {
		return r.store.readError(err)
	}
	return nil
}

// Close ends the reading.
func (r *RecordReader) Close() error {
	if err := r.iter.Close(); err != nil {
		return r.store.readError(err)
	}
	return nil
}

// User gives what a user's queue amounts to; a user without one has zeros.
func (s *Store) User(user messaging.UserID) (u User, err error) {
	err = s.get(userKey(user), func(v []byte) error {
		if u, err = decodeUser(v); err != nil {
			return damagedKey("u", err)
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return User{}, nil
	}
	return u, err
}

// Users gives what several users' queues amount to. In the order of their keys
// it reads the store once, so sort them by [CompareUsers].
func (s *Store) Users(users []messaging.UserID, each func(i int, u User)) (err error) {
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableUser}, UpperBound: []byte{tableUser + 1}})
	if err != nil {
		return s.readError(err)
	}
	defer func() {
		if e := iter.Close(); e != nil && err == nil {
			err = s.readError(e)
		}
	}()
	var key [2 + messaging.MaxIDLength]byte
	for i, user := range users {
		k := appendUser(key[:0], tableUser, user)
		if !iter.SeekGE(k) || !bytes.Equal(iter.Key(), k) {
			if err := iter.Error(); err != nil {
				return s.readError(err)
			}
			each(i, User{})
			continue
		}
		value, err := iter.ValueAndErr()
		if err != nil {
			return s.readError(err)
		}
		u, err := decodeUser(value)
		if err != nil {
			return damagedKey("u", err)
		}
		each(i, u)
	}
	return nil
}

// CompareUsers orders users as their keys are.
func CompareUsers(a, b messaging.UserID) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// Entry gives a message's entry on one shelf of a user's queue; ok is false
// where there is none.
func (s *Store) Entry(shelf Shelf, user messaging.UserID, p messaging.Priority, seq uint64) (e Entry, ok bool, err error) {
	var key [2 + messaging.MaxIDLength + 9]byte
	err = s.get(appendEntryKey(key[:0], shelf, user, p, seq), func(v []byte) error {
		if e, err = decodeEntry(v); err != nil {
			return damagedKey("q", err)
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return Entry{}, false, nil
	}
	return e, err == nil, err
}

// Receivers gives one chunk of a broadcast's receivers, or [ErrNotFound].
func (s *Store) Receivers(id messaging.MessageID, chunk uint32) (receivers []messaging.Receiver, err error) {
	err = s.get(receiversKey(id, chunk), func(v []byte) error {
		receivers, err = messaging.DecodeReceivers(v)
		return err
	})
	return receivers, err
}

// Entries calls each for the entries of one shelf, user and priority from
// sequence from up to, not including, to, in order, until it returns false. It
// holds an iterator open meanwhile: each must be quick.
func (s *Store) Entries(shelf Shelf, user messaging.UserID, p messaging.Priority, from, to uint64, each func(seq uint64, e Entry) bool) error {
	lower := appendEntryKey(nil, shelf, user, p, from)
	upper := appendEntryKey(nil, shelf, user, p, to)
	return s.scan(lower, upper, func(key, value []byte) (bool, error) {
		_, _, seq, err := parseEntryKey(key)
		if err != nil {
			return false, damagedKey("q", err)
		}
		entry, err := decodeEntry(value)
		if err != nil {
			return false, damagedKey("q", err)
		}
		return each(seq, entry), nil
	})
}

// AllEntries calls each for every entry of every queue on one shelf, in the
// order of their keys; for checks, which may take their time.
func (s *Store) AllEntries(shelf Shelf, each func(user messaging.UserID, p messaging.Priority, seq uint64) bool) error {
	return s.scan([]byte{byte(shelf)}, []byte{byte(shelf) + 1}, func(key, _ []byte) (bool, error) {
		user, p, seq, err := parseEntryKey(key)
		if err != nil {
			return false, damagedKey("q", err)
		}
		return each(user, p, seq), nil
	})
}

// Timers calls each for the events of one kind between two times, both included, in
// Unix milliseconds, in the order of their times, until it returns false.
func (s *Store) Timers(what Event, from, upTo int64, each func(t Timer, p messaging.Priority) bool) error {
	return s.scan(numberKey(byte(what), timeNumber(from)), numberKey(byte(what), timeNumber(upTo)+1), func(key, value []byte) (bool, error) {
		t, err := parseTimerKey(key)
		if err != nil || len(value) != 1 || value[0] >= messaging.Priorities {
			return false, damagedKey(string(what), errKey)
		}
		return each(t, messaging.Priority(value[0])), nil
	})
}

// NextTimer gives the time of the first event of one kind from a time on; ok is false where
// there is none.
func (s *Store) NextTimer(what Event, from int64) (at int64, ok bool, err error) {
	err = s.scan(numberKey(byte(what), timeNumber(from)), []byte{byte(what) + 1}, func(key, _ []byte) (bool, error) {
		t, err := parseTimerKey(key)
		if err != nil {
			return false, damagedKey(string(what), err)
		}
		at, ok = t.At, true
		return false, nil
	})
	return at, ok, err
}

// Once gives what was answered to the first call with an idempotency key; ok is
// false for one that was not used.
func (s *Store) Once(scope [16]byte, key string) (o OnceRecord, ok bool, err error) {
	err = s.get(appendOnceKey(nil, scope, key), func(v []byte) error {
		if o, err = decodeOnce(v); err != nil {
			return damagedKey("k", err)
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return OnceRecord{}, false, nil
	}
	return o, err == nil, err
}

// OnceEnds gives up to limit idempotency keys that may go between two times in Unix
// milliseconds.
func (s *Store) OnceEnds(from, at int64, limit int) (ends []OnceEnd, err error) {
	err = s.scan(numberKey(tableOnceEnd, timeNumber(from)), numberKey(tableOnceEnd, timeNumber(at)+1), func(key, _ []byte) (bool, error) {
		end, err := parseOnceEndKey(key)
		if err != nil {
			return false, damagedKey("x", err)
		}
		ends = append(ends, end)
		return len(ends) < limit, nil
	})
	return ends, err
}

// Records calls each for the records from sequence from up to, not including,
// to, in order, until it returns false. The bytes are valid during the call.
func (s *Store) Records(from, to uint64, each func(seq uint64, record []byte) (bool, error)) error {
	return s.scan(numberKey(tableLog, from), numberKey(tableLog, to), func(key, value []byte) (bool, error) {
		seq, err := parseNumberKey(key)
		if err != nil {
			return false, damagedKey("l", err)
		}
		return each(seq, value)
	})
}

// SequenceBefore gives the sequence of the last note in the time index that is
// not after ms, or 0.
func (s *Store) SequenceBefore(ms int64) (seq uint64, err error) {
	err = s.lastOf([]byte{tableTime}, numberKey(tableTime, timeNumber(ms)+1), func(_, value []byte) error {
		if len(value) != 8 {
			return damagedKey("t", errValue)
		}
		seq = binary.BigEndian.Uint64(value)
		return nil
	})
	return seq, err
}

// LastTime gives the latest time in the time index, or 0.
func (s *Store) LastTime() (ms int64, err error) {
	err = s.lastOf([]byte{tableTime}, []byte{tableTime + 1}, func(key, _ []byte) error {
		n, err := parseNumberKey(key)
		if err != nil {
			return damagedKey("t", err)
		}
		ms = int64(n) //nolint:gosec // written from an int64
		return nil
	})
	return ms, err
}

// lastOf calls use for the last key in [lower, upper), if there is one.
func (s *Store) lastOf(lower, upper []byte, use func(key, value []byte) error) (err error) {
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(err)
	}
	defer func() {
		if e := iter.Close(); e != nil && err == nil {
			err = s.readError(e)
		}
	}()
	if !iter.Last() {
		return nil
	}
	value, err := iter.ValueAndErr()
	if err != nil {
		return s.readError(err)
	}
	return use(iter.Key(), value)
}

// Stages gives the broadcasts whose receivers were staged and never committed.
func (s *Store) Stages() (ids []messaging.MessageID, err error) {
	err = s.scan([]byte{tableStage}, []byte{tableStage + 1}, func(key, _ []byte) (bool, error) {
		if len(key) != 17 {
			return false, damagedKey("s", errKey)
		}
		ids = append(ids, messaging.MessageID(key[1:]))
		return true, nil
	})
	return ids, err
}

// Fanouts gives the fan-outs that are not finished, oldest first.
func (s *Store) Fanouts() (jobs []Fanout, err error) {
	err = s.scan([]byte{tableFanout}, []byte{tableFanout + 1}, func(key, value []byte) (bool, error) {
		job, err := decodeFanout(key, value)
		if err != nil {
			return false, damagedKey("f", err)
		}
		jobs = append(jobs, job)
		return true, nil
	})
	return jobs, err
}

// scan calls each for the keys in [lower, upper) until it returns false.
func (s *Store) scan(lower, upper []byte, each func(key, value []byte) (bool, error)) (err error) {
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(err)
	}
	defer func() {
		if e := iter.Close(); e != nil && err == nil {
			err = s.readError(e)
		}
	}()
	for ok := iter.First(); ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return s.readError(err)
		}
		more, err := each(iter.Key(), value)
		if err != nil || !more {
			return err
		}
	}
	return nil
}
