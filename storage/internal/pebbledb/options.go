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
	// Format is pinned by its own name: FormatNewest moves with an upgrade of the
	// library, and a database never moves back.
	Format = pebble.FormatValueSeparation
	// MaxMemTables is how many memtables may be full before writes wait.
	MaxMemTables = 4
	// MaxOpenFiles is the default of the field of the configuration.
	MaxOpenFiles = 1000

	defaultCache    = 96 << 20
	defaultMemTable = 32 << 20
)

// Config says how a database is opened.
type Config struct {
	// FS is the file system of the database.
	FS vfs.FS
	// CacheBytes bounds the block cache and the memtables together (default 96
	// MiB); MemTableBytes bounds one memtable (default 32 MiB).
	CacheBytes    int64
	MemTableBytes uint64
	// MaxOpenFiles bounds the tables that are kept open (default 1000).
	MaxOpenFiles int
	// Logger gets what Pebble has to say.
	Logger *slog.Logger
	// Fatal is called when the disk failed in a way after which nothing may be
	// acknowledged. It must not return.
	Fatal func(doing string, err error)
	// DiskFull hears of background work that failed for lack of space, each time that
	// it is tried; nil ignores it.
	DiskFull func(err error)
}

// MemTableSize is how large one memtable may be.
func (c Config) MemTableSize() uint64 { return cmp.Or(c.MemTableBytes, defaultMemTable) }

// options is how a database is opened, but for its file system, its cache
// and whether it must be there.
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

// logger hands Pebble's words on. What it calls fatal is a disk that
// failed: the process ends.
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
	l.fatal("pebble", fmt.Errorf(format, args...)) //nolint:err113 // Pebble's own words
}

// maxFailures is how often in a row background work may fail, but for lack of
// space: Pebble retries forever, and whoever waits for it, a start or a
// stop among them, would wait as long.
const maxFailures = 20

// events reports only what an operator has to know.
func (c Config) events() *pebble.EventListener {
	failures := new(atomic.Int32) // how often in a row background work has failed
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

// backgroundFailed hears of background work of Pebble's that failed and is
// tried again.
func (c Config) backgroundFailed(failures *atomic.Int32, err error) {
	if layout.IsDiskFull(err) {
		if c.DiskFull != nil {
			c.DiskFull(err)
		}
		return
	}
	c.Logger.Error("background work of the store failed and is tried again", "error", err)
	if failures.Add(1) < maxFailures {
		return
	}
	if pebble.IsCorruptionError(err) {
		err = fmt.Errorf("%w: %w; %s", layout.ErrCorrupt, err, layout.HowToRepair)
	}
	c.Fatal("work in the background of the store", err)
}
