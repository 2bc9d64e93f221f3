package tables

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Reader reads the tables of a store: the current state of a database, or that of one
// moment ([Snapshot]). Its methods are safe for concurrent use.
type Reader struct{ from Source }

// NewReader returns a reader of a database or a snapshot.
func NewReader(from Source) Reader { return Reader{from} }

// Source is the common part of [pebble.DB] and [pebble.Snapshot].
type Source interface {
	Get(key []byte) (value []byte, closer io.Closer, err error)
	NewIter(o *pebble.IterOptions) (*pebble.Iterator, error)
}

// Snapshot reads a store as of the moment when the snapshot was taken. It keeps what was
// removed since on disk, so close it soon.
type Snapshot struct {
	Reader

	snapshot *pebble.Snapshot
}

// NewSnapshot returns a snapshot of what was applied to a database.
func NewSnapshot(db *pebble.DB) *Snapshot {
	snapshot := db.NewSnapshot()
	return &Snapshot{Reader{snapshot}, snapshot}
}

// Close releases the snapshot. It must not be in use.
func (s *Snapshot) Close() error { return s.snapshot.Close() }

// get calls use with the value of a key. The value is valid during the call.
func (r Reader) get(key []byte, use func(value []byte) error) error {
	value, closer, err := r.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return layout.ErrNotFound
	}
	if err != nil {
		return readError(err)
	}
	err = use(value)
	return errors.Join(err, closer.Close())
}

// readError wraps Pebble's corruption errors with [layout.ErrCorrupt].
func readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", layout.ErrCorrupt, err)
	}
	return fmt.Errorf("read the store: %w", err)
}

func damagedKey(table string, err error) error {
	return fmt.Errorf("%w: table %s: %w", layout.ErrCorrupt, table, err)
}

// ReadMeta returns the meta record.
func ReadMeta(r Reader) (m schema.Meta, err error) {
	err = r.get([]byte{schema.TableMeta}, func(v []byte) error {
		m, err = schema.DecodeMeta(v)
		return err
	})
	return m, err
}

// lastOf calls use for the last key in [lower, upper), if there is one.
func (r Reader) lastOf(lower, upper []byte, use func(key, value []byte) error) (err error) {
	iter, err := r.from.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(err)
	}
	defer func() {
		if e := iter.Close(); e != nil && err == nil {
			err = readError(e)
		}
	}()
	if !iter.Last() {
		return nil
	}
	value, err := iter.ValueAndErr()
	if err != nil {
		return readError(err)
	}
	return use(iter.Key(), value)
}

// scan calls each for the keys in [lower, upper) until each returns false.
func (r Reader) scan(lower, upper []byte, each func(key, value []byte) (bool, error)) (err error) {
	iter, err := r.from.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(err)
	}
	defer func() {
		if e := iter.Close(); e != nil && err == nil {
			err = readError(e)
		}
	}()
	for ok := iter.First(); ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		more, err := each(iter.Key(), value)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Get calls use with the value of a key. The value is valid during the call. Get returns
// [layout.ErrNotFound] if the key does not exist.
func Get(r Reader, key []byte, use func(value []byte) error) error { return r.get(key, use) }

// Scan calls each for the keys in [lower, upper) until each returns false.
func Scan(r Reader, lower, upper []byte, each func(key, value []byte) (bool, error)) error {
	return r.scan(lower, upper, each)
}

// ScanTable calls each for the keys of a table until each returns false.
func ScanTable(r Reader, table byte, each func(key, value []byte) (bool, error)) error {
	return r.scan([]byte{table}, []byte{table + 1}, each)
}
