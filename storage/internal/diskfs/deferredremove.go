package diskfs

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DeferredRemove keeps removed files until Release. Pebble removes files that it no
// longer needs as soon as it has opened, including a write-ahead log of which it could
// not read the end. A store that is then refused must still have that log, or it could
// not be repaired.
type DeferredRemove struct {
	vfs.FS

	mu       sync.Mutex
	released bool
	held     []string
}

// Remove implements [vfs.FS].
func (f *DeferredRemove) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.released {
		f.held = append(f.held, name)
		return nil
	}
	return f.FS.Remove(name)
}

// Unwrap implements [vfs.FS].
func (f *DeferredRemove) Unwrap() vfs.FS { return f.FS }

// Release removes the kept files. Later removals happen at once.
func (f *DeferredRemove) Release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = true
	var errs []error
	for _, name := range f.held {
		errs = append(errs, f.FS.Remove(name))
	}
	f.held = nil
	return errors.Join(errs...)
}
