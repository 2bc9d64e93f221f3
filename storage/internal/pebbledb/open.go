package pebbledb

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// Open opens an existing database. Without ErrorIfNotExists, Pebble would create an empty
// one if the manifest is missing.
func Open(dir string, c Config) (*pebble.DB, error) {
	return open(dir, c, func(o *pebble.Options) { o.ErrorIfNotExists = true })
}

// Create creates a database, which must not exist.
func Create(dir string, c Config) (*pebble.DB, error) {
	return open(dir, c, func(o *pebble.Options) { o.ErrorIfExists = true })
}

// OpenReadOnly opens a database and writes nothing to its directory.
func OpenReadOnly(dir string, c Config) (*pebble.DB, error) {
	c.FS = diskfs.ReadOnly{FS: c.FS}
	return open(dir, c, func(o *pebble.Options) {
		o.ReadOnly, o.ErrorIfNotExists = true, true
		o.DisableTableStats = true // with a damaged table it would retry forever
	})
}

func open(dir string, c Config, adjust func(*pebble.Options)) (*pebble.DB, error) {
	if err := RefuseNewerFormat(vfs.Root(c.FS), dir); err != nil {
		return nil, err
	}
	options := c.options()
	options.FS = c.FS
	options.Cache = pebble.NewCache(cmp.Or(c.CacheBytes, defaultCache))
	defer options.Cache.Unref()
	adjust(options)
	db, err := openOrPanicked(dir, options)
	if err != nil {
		return nil, openError(dir, err)
	}
	return db, nil
}

// openOrPanicked opens a database. If a file has the wrong contents, such as a manifest
// in place of a log, Pebble can index beyond what it read. It then releases its
// resources and panics again; this function returns the panic as an error.
func openOrPanicked(dir string, options *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("its contents are invalid: %w", p)
		default:
			panic(p) //nolint:forbidigo // not a runtime error
		}
	}()
	return pebble.Open(dir, options)
}

// FormatMarker begins the name of the file whose name ends in the format version of the
// database.
const FormatMarker = "marker.format-version."

// RefuseNewerFormat returns [layout.ErrFormat] for a database written by a newer program.
// Pebble refuses it too, but its error does not identify the cause, and a repair must not
// treat it as damage.
func RefuseNewerFormat(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return nil //nolint:nilerr // a missing directory is reported when it is opened
	}
	for _, name := range names {
		_, version, ok := strings.Cut(strings.TrimPrefix(name, FormatMarker), ".")
		n, err := strconv.ParseUint(version, 10, 32)
		if ok && strings.HasPrefix(name, FormatMarker) && err == nil && n > uint64(Format) {
			return fmt.Errorf("%w: %s is %d and this program reads %d; use the program that wrote it, or a newer one", layout.ErrFormat, dir, n, Format)
		}
	}
	return nil
}

// openError classifies why Pebble did not open. Pebble does not report all damage as
// corruption, such as a truncated table or unparsable options. So every error counts as
// damage unless the operating system refused an operation.
func openError(dir string, err error) error {
	refused, isRefused := errors.AsType[syscall.Errno](err)
	switch {
	case layout.IsDiskFull(err):
		return fmt.Errorf("%w: %w", layout.ErrDiskFull, err)
	case isRefused && refused != syscall.ENOENT:
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return &CorruptError{dir, err}
}

// CorruptError is the [layout.ErrCorrupt] of a database that Pebble cannot open.
type CorruptError struct {
	dir   string
	cause error
}

// Error returns the cause and what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: %s cannot be opened: %v; %s", layout.ErrCorrupt, e.dir, e.cause, layout.HowToRepair)
}

// Cause returns Pebble's error.
func (e *CorruptError) Cause() error { return e.cause }

// Unwrap returns [layout.ErrCorrupt] and the cause.
func (e *CorruptError) Unwrap() []error { return []error{layout.ErrCorrupt, e.cause} }

// LiveTables returns the names of the table files that a database uses.
func LiveTables(db *pebble.DB) (map[string]bool, error) {
	levels, err := db.SSTables()
	live := make(map[string]bool)
	for _, level := range levels {
		for i := range level {
			live[fmt.Sprintf("%06d.sst", level[i].BackingSSTNum)] = true
		}
	}
	return live, err
}
