package diskfs

import (
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ReadOnly refuses all changes. Pebble creates its lock file even when it opens a
// database read-only; Lock succeeds without one. The lock of the data directory excludes
// other processes.
type ReadOnly struct{ vfs.FS }

var errReadOnly = errors.New("the store was opened read-only")

type noLock struct{}

func (noLock) Close() error { return nil }

// Lock implements [vfs.FS].
func (ReadOnly) Lock(string) (io.Closer, error) { return noLock{}, nil }

// Create implements [vfs.FS].
func (ReadOnly) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }

// OpenReadWrite implements [vfs.FS].
func (ReadOnly) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

// ReuseForWrite implements [vfs.FS].
func (ReadOnly) ReuseForWrite(_, _ string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}

// Link implements [vfs.FS].
func (ReadOnly) Link(_, _ string) error { return errReadOnly }

// Rename implements [vfs.FS].
func (ReadOnly) Rename(_, _ string) error { return errReadOnly }

// MkdirAll implements [vfs.FS].
func (ReadOnly) MkdirAll(string, os.FileMode) error { return errReadOnly }

// Remove implements [vfs.FS].
func (ReadOnly) Remove(string) error { return errReadOnly }

// RemoveAll implements [vfs.FS].
func (ReadOnly) RemoveAll(string) error { return errReadOnly }

// Unwrap implements [vfs.FS].
func (f ReadOnly) Unwrap() vfs.FS { return f.FS }
