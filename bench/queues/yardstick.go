package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// yardstick is Pebble alone, with the service's options: it commits batches of
// the records, queue entries and counts that a batch of messages is, each batch
// with an fsync.
type yardstick struct {
	db   *pebble.DB
	size int
	seq  atomic.Uint64
}

func newYardstick(dir string, size int) (*yardstick, error) {
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref()
	options := &pebble.Options{
		Cache: cache, FormatMajorVersion: pebble.FormatValueSeparation, MemTableSize: 32 << 20, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 48, LBaseMaxBytes: 64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 }, Logger: quiet{},
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, options)
	return &yardstick{db: db, size: size}, err
}

func (y *yardstick) close() error { return y.db.Close() }

// commit is one batch.
func (y *yardstick) commit(worker, n int) (int, error) {
	batch := y.db.NewBatch()
	size := uint64(y.size) //nolint:gosec // a batch's size
	first := y.seq.Add(size) - size
	value := make([]byte, 0, 300)
	for i := range y.size {
		user := (worker*31 + n*7919*y.size + i*7919) % users
		value = append(value[:0], make([]byte, 48)...)
		value = append(value, message(user)...)
		if err := batch.Set(binary.BigEndian.AppendUint64([]byte{'l'}, first+uint64(i)), value, nil); err != nil {
			return 0, err
		}
	}
	for i := range y.size {
		name := fmt.Sprint((worker*31 + n*7919*y.size + i*7919) % users)
		prefix := append([]byte{byte(len(name))}, name...) //nolint:gosec // a few digits
		entry := binary.BigEndian.AppendUint64(append(append([]byte{'q'}, prefix...), 1), first+uint64(i))
		err := errors.Join(batch.Set(entry, []byte{1, 0}, nil), batch.Set(append([]byte{'u'}, prefix...), make([]byte, 10), nil))
		if err != nil {
			return 0, err
		}
	}
	return y.size, errors.Join(batch.Commit(pebble.Sync), batch.Close())
}

// quiet says nothing but what ends it.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
