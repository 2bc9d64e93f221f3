package pebbledb

import (
	"cmp"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/layout"
)

const (
	// Format is pinned: FormatNewest changes with an upgrade of the library, and a
	// database's format cannot be lowered.
	Format = pebble.FormatValueSeparation
	// MaxMemTables is how many full memtables there may be before writes wait.
	MaxMemTables = 4
	// MaxOpenFiles is the default of [Config.MaxOpenFiles].
	MaxOpenFiles = 1000

	defaultCache    = 96 << 20
	defaultMemTable = 32 << 20
)

// Config configures a database.
type Config struct {
	// FS is the file system of the database.
	FS vfs.FS
	// CacheBytes bounds the block cache and the memtables together (default 96 MiB).
	// MemTableBytes bounds one memtable (default 32 MiB).
	CacheBytes    int64
	MemTableBytes uint64
	// MaxOpenFiles bounds the number of open tables (default 1000).
	MaxOpenFiles int
	// Logger receives Pebble's log lines.
	Logger *slog.Logger
	// Fatal is called after a disk failure that rules out further acknowledgements. It
	// must not return.
	Fatal func(doing string, err error)
	// DiskFull is called each time that background work fails for lack of space; nil
	// ignores it.
	DiskFull func(err error)
}

// MemTableSize returns the maximal size of one memtable.
func (c Config) MemTableSize() uint64 { return cmp.Or(c.MemTableBytes, defaultMemTable) }

// options returns Pebble's options, except for the file system, the cache and whether the
// database must exist.
func (c Config) options() *pebble.Options {
	options := &pebble.Options{
		FormatMajorVersion:          Format,
		MemTableSize:                c.MemTableSize(),
		MemTableStopWritesThreshold: MaxMemTables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       48,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                cmp.Or(c.MaxOpenFiles, MaxOpenFiles),
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      logger{c.Logger, c.Fatal},
		EventListener:               c.events(),
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return options
}

// logger forwards Pebble's log lines. Pebble's fatal errors are disk failures and end the
// process.
type logger struct {
	*slog.Logger

	fatal func(doing string, err error)
}

// Infof implements [pebble.Logger].
func (l logger) Infof(format string, args ...any) {
	l.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

// Errorf implements [pebble.Logger].
func (l logger) Errorf(format string, args ...any) {
	l.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf implements [pebble.Logger].
func (l logger) Fatalf(format string, args ...any) {
	l.fatal("pebble", fmt.Errorf(format, args...)) //nolint:err113 // Pebble's own text
}

// maxFailures is how many times in a row background work may fail for other reasons than
// lack of space. Pebble retries forever, and waiters, such as a start or a stop, would
// never return.
const maxFailures = 20

// events logs only what an operator needs to know.
func (c Config) events() *pebble.EventListener {
	failures := new(atomic.Int32) // consecutive failures of background work
	return &pebble.EventListener{
		BackgroundError: func(err error) { c.backgroundFailed(failures, err) },
		FlushEnd: func(info pebble.FlushInfo) {
			if info.Err == nil {
				failures.Store(0)
			}
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			if info.Err == nil {
				failures.Store(0)
			}
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			c.Logger.Warn("writes wait for the store's background work", "reason", info.Reason)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			c.Logger.Error("the store found damaged data", "file", info.Path, "details", slog.AnyValue(info.Details))
		},
	}
}

// backgroundFailed is called when Pebble's background work has failed and will be
// retried.
func (c Config) backgroundFailed(failures *atomic.Int32, err error) {
	if layout.IsDiskFull(err) {
		if c.DiskFull != nil {
			c.DiskFull(err)
		}
		return
	}
	c.Logger.Error("background work of the store failed and is retried", "error", err)
	if failures.Add(1) < maxFailures {
		return
	}
	if pebble.IsCorruptionError(err) {
		err = fmt.Errorf("%w: %w; %s", layout.ErrCorrupt, err, layout.HowToRepair)
	}
	c.Fatal("background work of the store", err)
}
