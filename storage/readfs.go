package storage

import (
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// readFS lets nothing be written, whatever is asked: Pebble makes its lock file
// also where it only reads. Another process is kept out by the lock of the data
// directory.
type readFS struct{ vfs.FS }

var errReadOnly = errors.New("the store was opened to be read")

type noLock struct{}

func (noLock) Close() error { return nil }

// Lock implements [vfs.FS].
func (readFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

// Create implements [vfs.FS].
func (readFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }

// OpenReadWrite implements [vfs.FS].
func (readFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

// ReuseForWrite implements [vfs.FS].
func (readFS) ReuseForWrite(_, _ string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}

// Link implements [vfs.FS].
func (readFS) Link(_, _ string) error { return errReadOnly }

// Rename implements [vfs.FS].
func (readFS) Rename(_, _ string) error { return errReadOnly }

// MkdirAll implements [vfs.FS].
func (readFS) MkdirAll(string, os.FileMode) error { return errReadOnly }

// Remove implements [vfs.FS].
func (readFS) Remove(string) error { return errReadOnly }

// RemoveAll implements [vfs.FS].
func (readFS) RemoveAll(string) error { return errReadOnly }

// Unwrap implements [vfs.FS].
func (f readFS) Unwrap() vfs.FS { return f.FS }
