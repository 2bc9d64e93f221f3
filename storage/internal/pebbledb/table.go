package pebbledb

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TableFile reads a table, but no damaged block twice. If a checksum does not match,
// Pebble looks for the flipped bit by computing the checksum for each bit. That takes a
// fifth of a second for a block of 20 KiB and over twenty seconds for one of 1 MiB. A
// search for the next undamaged block reads a thousand times. A TableFile is for one
// goroutine.
type TableFile struct {
	objstorage.Readable

	last    int64 // offset of the last read
	damaged map[int64]bool
}

var errDamagedBlock = errors.New("the block is damaged")

// ReadAt implements [objstorage.Readable].
func (f *TableFile) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if f.last = offset; f.damaged[offset] {
		return errDamagedBlock
	}
	return f.Readable.ReadAt(ctx, p, offset)
}

// NewReadHandle implements [objstorage.Readable].
func (f *TableFile) NewReadHandle(objstorage.ReadBeforeSize) objstorage.ReadHandle {
	h := objstorage.MakeNoopReadHandle(f)
	return &h
}

// MarkBad marks the block that was read last as damaged.
func (f *TableFile) MarkBad() { f.damaged[f.last] = true }

// OpenTable opens a table file on the real disk.
func OpenTable(path string) (*sstable.Reader, *TableFile, error) {
	f, err := vfs.Default.Open(path)
	if err != nil {
		return nil, nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	file := &TableFile{Readable: readable, damaged: make(map[int64]bool)}
	policy := bloom.FilterPolicy(10)
	r, err := sstable.NewReader(context.Background(), file, sstable.ReaderOptions{
		Comparer: pebble.DefaultComparer, Filters: map[string]sstable.FilterPolicy{policy.Name(): policy},
	})
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return r, file, nil
}
