package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// pebbleConfig is how the database is opened, on a file system.
func (s *Store) pebbleConfig(fs vfs.FS) pebbledb.Config {
	return pebbledb.Config{
		FS: fs, CacheBytes: s.config.CacheBytes, MemTableBytes: s.config.MemTableBytes, MaxOpenFiles: s.config.MaxOpenFiles,
		Logger: s.logger, Fatal: s.fatal, DiskFull: s.backgroundDiskFull,
	}
}

// openPebble opens the database, or creates it. What is removed meanwhile is kept
// until held is released.
func (s *Store) openPebble(dir string, open func(dir string, c pebbledb.Config) (*pebble.DB, error)) (*pebble.DB, error) {
	s.held = &diskfs.DeferredRemove{FS: s.pebbleFS()}
	return open(dir, s.pebbleConfig(s.held))
}

// pebbleFS is the file system below the database: one that keeps names in order,
// reports a slow disk, has files ready for logs, and releases the ballast when
// the disk is full.
func (s *Store) pebbleFS() vfs.FS {
	if s.config.FS != nil {
		return diskfs.Ordered{FS: s.config.FS, Fatal: s.fatal}
	}
	checked, closer := vfs.WithDiskHealthChecks(vfs.Default, slowDisk, nil, func(info vfs.DiskSlowInfo) {
		s.logger.Warn("the disk is slow", "file", filepath.Base(info.Path), "operation", info.OpType.String(), "seconds", info.Duration.Seconds())
	})
	s.closers = append(s.closers, closer)
	s.prealloc = diskfs.NewPrealloc(s.withBallast(checked), checked, int64(s.pebbleConfig(nil).MemTableSize()), s.roomToSpare, s.logger) //nolint:gosec // far below 2^63
	return diskfs.Ordered{FS: s.prealloc, Fatal: s.fatal}
}

// roomToSpare is how many bytes are free above those below which sends are
// refused.
func (s *Store) roomToSpare() (uint64, error) {
	free, err := layout.Free(s.config.Dir)
	return free - min(free, s.config.MinFree), err
}

func (s *Store) baseFS() vfs.FS {
	if s.config.FS != nil {
		return s.config.FS
	}
	return vfs.Default
}

func (s *Store) syncDir(path string) error { return diskfs.SyncDir(s.baseFS(), path) }

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
		return s.exists(layout.ControlName)
	}
	file, err := s.config.Control()
	if err != nil {
		return false, err
	}
	empty, err := controlfile.IsEmpty(file)
	return !empty, errors.Join(err, file.Close())
}

// Dir is the data directory.
func (s *Store) Dir() string { return s.config.Dir }

// slowDisk is when an operation of the disk is worth a line in the log.
const slowDisk = 5 * time.Second

// live reads a store as it is: the database may not be open yet when the store is
// made.
type live struct{ store *Store }

func (l live) Get(key []byte) ([]byte, io.Closer, error) {
	l.store.pointReads.Add(1)
	return l.store.db.Get(key)
}

func (l live) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) { return l.store.db.NewIter(o) }

// Snapshot takes a snapshot of what was applied.
func (s *Store) Snapshot() *Snapshot { return tables.NewSnapshot(s.db) }
