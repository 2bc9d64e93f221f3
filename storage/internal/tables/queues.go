package tables

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// QueueState returns a user's queue state. It is zero if the user has no queue.
func (r Reader) QueueState(user messaging.UserID) (u schema.QueueState, err error) {
	err = r.get(schema.UserKey(user), func(v []byte) error {
		if u, err = schema.DecodeQueueState(v); err != nil {
			return damagedKey("u", err)
		}
		return nil
	})
	if errors.Is(err, layout.ErrNotFound) {
		return schema.QueueState{}, nil
	}
	return u, err
}

// QueueStates calls each with the queue states of several users. If they are sorted by
// [CompareUsers], it passes over the table only once.
func (r Reader) QueueStates(users []messaging.UserID, each func(i int, u schema.QueueState)) (err error) {
	iter, err := r.from.NewIter(&pebble.IterOptions{LowerBound: []byte{schema.TableUser}, UpperBound: []byte{schema.TableUser + 1}})
	if err != nil {
		return readError(err)
	}
	defer func() {
		if e := iter.Close(); e != nil && err == nil {
			err = readError(e)
		}
	}()
	var key [2 + messaging.MaxIDLength]byte
	for i, user := range users {
		k := schema.AppendUserID(key[:0], schema.TableUser, user)
		if !iter.SeekGE(k) || !bytes.Equal(iter.Key(), k) {
			if err := iter.Error(); err != nil {
				return readError(err)
			}
			each(i, schema.QueueState{})
			continue
		}
		value, err := iter.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		u, err := schema.DecodeQueueState(value)
		if err != nil {
			return damagedKey("u", err)
		}
		each(i, u)
	}
	return nil
}

// Entry returns a message's entry in one index of a user's queue. ok is false if there is
// none.
func (r Reader) Entry(index schema.Index, user messaging.UserID, p messaging.Priority, seq uint64) (e schema.Entry, ok bool, err error) {
	var key [2 + messaging.MaxIDLength + 9]byte
	err = r.get(schema.AppendEntryKey(key[:0], index, user, p, seq), func(v []byte) error {
		if e, err = schema.DecodeEntry(v); err != nil {
			return damagedKey("q", err)
		}
		return nil
	})
	if errors.Is(err, layout.ErrNotFound) {
		return schema.Entry{}, false, nil
	}
	return e, err == nil, err
}

// Entries calls each for the entries of one index, user and priority in [from, to), in
// order, until each returns false. It holds an iterator open, so each must be quick.
func (r Reader) Entries(index schema.Index, user messaging.UserID, p messaging.Priority, from, to uint64, each func(seq uint64, e schema.Entry) bool) error {
	lower := schema.AppendEntryKey(nil, index, user, p, from)
	upper := schema.AppendEntryKey(nil, index, user, p, to)
	return r.scan(lower, upper, func(key, value []byte) (bool, error) {
		_, _, seq, err := schema.ParseEntryKey(key)
		if err != nil {
			return false, damagedKey("q", err)
		}
		entry, err := schema.DecodeEntry(value)
		if err != nil {
			return false, damagedKey("q", err)
		}
		return each(seq, entry), nil
	})
}

// AllEntries calls each for every entry of all queues in one index, in key order, except
// for cleared entries. It is for checks, which may take long.
func (r Reader) AllEntries(index schema.Index, each func(user messaging.UserID, p messaging.Priority, seq uint64) bool) error {
	cleared, err := Cleared(r)
	if err != nil {
		return err
	}
	return r.scan([]byte{byte(index)}, []byte{byte(index) + 1}, func(key, _ []byte) (bool, error) {
		user, p, seq, err := schema.ParseEntryKey(key)
		if err != nil {
			return false, damagedKey("q", err)
		}
		return cleared.Has(user, seq) || each(user, p, seq), nil
	})
}

// Timers calls each for the events of one kind between two times in Unix milliseconds,
// both included, in order of time, until each returns false.
func (r Reader) Timers(what schema.Event, from, upTo int64, each func(t schema.Timer, p messaging.Priority) bool) error {
	return r.timers(what, schema.NumberKey(byte(what), schema.TimeNumber(from)), upTo, each)
}

// TimersAfter is like Timers, for the events after a timer.
func (r Reader) TimersAfter(what schema.Event, after schema.Timer, upTo int64, each func(t schema.Timer, p messaging.Priority) bool) error {
	return r.timers(what, append(schema.AppendTimerKey(nil, what, after), 0), upTo, each)
}

func (r Reader) timers(what schema.Event, lower []byte, upTo int64, each func(t schema.Timer, p messaging.Priority) bool) error {
	return r.scan(lower, schema.NumberKey(byte(what), schema.TimeNumber(upTo)+1), func(key, value []byte) (bool, error) {
		t, err := schema.ParseTimerKey(key)
		if err != nil || len(value) != 1 || value[0] >= messaging.Priorities {
			return false, damagedKey(string(what), schema.ErrKey)
		}
		return each(t, messaging.Priority(value[0])), nil
	})
}

// NextTimer returns the time of the first event of one kind at or after a time. ok is
// false if there is none.
func (r Reader) NextTimer(what schema.Event, from int64) (at int64, ok bool, err error) {
	err = r.scan(schema.NumberKey(byte(what), schema.TimeNumber(from)), []byte{byte(what) + 1}, func(key, _ []byte) (bool, error) {
		t, err := schema.ParseTimerKey(key)
		if err != nil {
			return false, damagedKey(string(what), err)
		}
		at, ok = t.At, true
		return false, nil
	})
	return at, ok, err
}

// HasEntry reports whether a message is in a user's queue, including delayed messages.
func HasEntry(r Reader, user messaging.UserID, p messaging.Priority, seq uint64) (bool, error) {
	for _, index := range []schema.Index{schema.Queued, schema.Delayed} {
		if _, ok, err := r.Entry(index, user, p, seq); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}
