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

// TableFile reads a table, and a block that was found damaged no second time.
// Pebble looks for the bit that was flipped whenever a checksum does not match, by
// computing the checksum for each bit: a fifth of a second for a block of 20 KiB,
// over twenty seconds for one of 1 MiB. Who looks for the next block that is whole
// asks a thousand times. It is for one goroutine.
type TableFile struct {
	objstorage.Readable

	last    int64 // where it was read last
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

// MarkBad says that what was read last is damaged.
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
