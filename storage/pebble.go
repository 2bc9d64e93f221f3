package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// memTablesMax is how many memtables may be full before writes wait.
const memTablesMax = 4

// MaxOpenFiles is how many tables are kept open where nothing else is said.
const MaxOpenFiles = 1000

func (s *Store) memTableBytes() uint64 { return cmp.Or(s.config.MemTableBytes, 32<<20) }

// openPebble opens one database; mustExist refuses to make an empty one where
// there should be one, which Pebble does when its manifest is gone.
func (s *Store) openPebble(dir string, mustExist bool) (*pebble.DB, error) {
	return s.openPebbleWith(dir, func(o *pebble.Options) { o.ErrorIfNotExists, o.ErrorIfExists = mustExist, !mustExist })
}

// readPebble opens a database without writing anything where it stands.
func (s *Store) readPebble(dir string) (*pebble.DB, error) {
	return s.openPebbleWith(dir, func(o *pebble.Options) {
		o.ReadOnly, o.ErrorIfNotExists, o.FS = true, true, readFS{o.FS}
		o.DisableTableStats = true // they would be gathered for ever where a table is damaged
	})
}

func (s *Store) openPebbleWith(dir string, adjust func(*pebble.Options)) (*pebble.DB, error) {
	if err := s.refuseNewerFormat(dir); err != nil {
		return nil, err
	}
	s.held = &heldFS{FS: s.pebbleFS()}
	options := s.pebbleOptions()
	options.FS = s.held
	options.Cache = pebble.NewCache(cmp.Or(s.config.CacheBytes, 96<<20))
	defer options.Cache.Unref()
	adjust(options)
	db, err := openOrPanicked(dir, options)
	if err != nil {
		return nil, s.openError(dir, err)
	}
	return db, nil
}

// openOrPanicked opens a database. Where a file is not what its name says, such as
// a manifest that stands in the place of a log, the library can index beyond what
// it read; it gives back what it holds, and panics on.
func openOrPanicked(dir string, options *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("what it holds makes no sense: %w", p)
		default:
			panic(p) //nolint:forbidigo // not ours
		}
	}()
	return pebble.Open(dir, options)
}

// pebbleOptions is how a database is opened, but for its file system, its cache
// and whether it must be there.
func (s *Store) pebbleOptions() *pebble.Options {
	options := &pebble.Options{
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                s.memTableBytes(),
		MemTableStopWritesThreshold: memTablesMax,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       48,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                cmp.Or(s.config.MaxOpenFiles, MaxOpenFiles),
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      pebbleLogger{s},
		EventListener:               s.events(),
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return options
}

// formatMarker begins the name of the file whose name ends in the version of the
// database's format.
const formatMarker = "marker.format-version."

// refuseNewerFormat refuses a database that a newer program has written. Pebble
// would too, but its error cannot be told from others, and a repair must not take
// it for damage.
func (s *Store) refuseNewerFormat(dir string) error {
	names, err := s.baseFS().List(dir)
	if err != nil {
		return nil //nolint:nilerr // what is not there is told when it is opened
	}
	for _, name := range names {
		_, version, ok := strings.Cut(strings.TrimPrefix(name, formatMarker), ".")
		n, err := strconv.ParseUint(version, 10, 32)
		if ok && strings.HasPrefix(name, formatMarker) && err == nil && n > uint64(pebbleFormat) {
			return fmt.Errorf("%w: %s is %d and this program reads %d; use the program that wrote it, or a newer one", ErrFormat, dir, n, pebbleFormat)
		}
	}
	return nil
}

// openError says what kept Pebble from opening. Much of what is damage does not
// count as corruption with it, such as a table that was cut or options that do not
// parse: so what the operating system did not refuse is damage.
func (s *Store) openError(dir string, err error) error {
	refused, isRefused := errors.AsType[syscall.Errno](err)
	switch {
	case isDiskFull(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case isRefused && refused != syscall.ENOENT:
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return &unopenedError{dir, err}
}

// unopenedError is the [ErrDamaged] of a database that the library cannot open.
type unopenedError struct {
	dir   string
	cause error
}

func (e *unopenedError) Error() string {
	return fmt.Sprintf("%v: %s cannot be opened: %v; %s", ErrDamaged, e.dir, e.cause, howToRepair)
}

func (e *unopenedError) Unwrap() []error { return []error{ErrDamaged, e.cause} }

// pebbleFS is the file system below the database: one that keeps names in order,
// reports a slow disk, has files ready for logs, and gives the reserve free when
// the disk is full.
func (s *Store) pebbleFS() vfs.FS {
	if s.config.FS != nil {
		return orderedFS{s.config.FS, s.fatal}
	}
	checked, closer := vfs.WithDiskHealthChecks(vfs.Default, slowDisk, nil, func(info vfs.DiskSlowInfo) {
		s.logger.Warn("the disk is slow", "file", filepath.Base(info.Path), "operation", info.OpType.String(), "seconds", info.Duration.Seconds())
	})
	s.closers = append(s.closers, closer)
	s.spares = newSpareFS(s.withReserve(checked), checked, int64(s.memTableBytes()), s.roomToSpare, s.logger) //nolint:gosec // far below 2^63
	return orderedFS{s.spares, s.fatal}
}

// roomToSpare is how many bytes are free above those below which sends are
// refused.
func (s *Store) roomToSpare() (uint64, error) {
	free, err := Free(s.config.Dir)
	return free - min(free, s.config.MinFree), err
}

func (s *Store) baseFS() vfs.FS {
	if s.config.FS != nil {
		return s.config.FS
	}
	return vfs.Default
}

func (s *Store) path(name string) string { return s.baseFS().PathJoin(s.config.Dir, name) }

func (s *Store) exists(name string) (bool, error) {
	_, err := s.baseFS().Stat(s.path(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) controlExists() (bool, error) {
	if s.config.FS == nil {
		return s.exists(controlName)
	}
	file, err := s.config.Control()
	if err != nil {
		return false, err
	}
	empty, err := (&Control{file: file}).isEmpty()
	return !empty, errors.Join(err, file.Close())
}

func (s *Store) syncDir(path string) error { return syncDir(s.baseFS(), path) }

// pebbleLogger hands Pebble's words on. What it calls fatal is a disk that
// failed: the process ends.
type pebbleLogger struct{ store *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.store.logger.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.store.logger.Error("pebble", "text", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.store.fatal("pebble", fmt.Errorf(format, args...)) //nolint:err113 // Pebble's own words
}

// events reports only what an operator has to know.
func (s *Store) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: s.backgroundFailed,
		FlushEnd: func(info pebble.FlushInfo) {
			if info.Err == nil {
				s.failures.Store(0)
			}
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			if info.Err == nil {
				s.failures.Store(0)
			}
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.logger.Warn("writes wait for the store's background work", "reason", info.Reason)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.logger.Error("the store found damaged data", "file", info.Path, "details", slog.AnyValue(info.Details))
		},
	}
}
