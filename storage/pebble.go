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

// pebbleConfig returns the database's configuration on a file system.
func (s *Store) pebbleConfig(fs vfs.FS) pebbledb.Config {
	return pebbledb.Config{
		FS: fs, CacheBytes: s.config.CacheBytes, MemTableBytes: s.config.MemTableBytes, MaxOpenFiles: s.config.MaxOpenFiles,
		Logger: s.logger, Fatal: s.fatal, DiskFull: s.backgroundDiskFull,
	}
}

// openPebble opens or creates the database. Its file removals are deferred until held is
// released.
func (s *Store) openPebble(dir string, open func(dir string, c pebbledb.Config) (*pebble.DB, error)) (*pebble.DB, error) {
	s.held = &diskfs.DeferredRemove{FS: s.pebbleFS()}
	return open(dir, s.pebbleConfig(s.held))
}

// pebbleFS returns the file system below the database. It syncs names in order, logs slow
// operations, preallocates logs, and releases the ballast on a full disk.
func (s *Store) pebbleFS() vfs.FS {
	if s.config.FS != nil {
		return diskfs.Ordered{FS: s.config.FS, Fatal: s.fatal}
	}
	checked, closer := vfs.WithDiskHealthChecks(vfs.Default, slowDisk, nil, func(info vfs.DiskSlowInfo) {
		s.logger.Warn("the disk is slow", "file", filepath.Base(info.Path), "operation", info.OpType.String(), "seconds", info.Duration.Seconds())
	})
	s.closers = append(s.closers, closer)
	s.prealloc = diskfs.NewPrealloc(s.withBallast(checked), checked, int64(s.pebbleConfig(nil).MemTableSize()), s.spaceAboveMinFree, s.logger) //nolint:gosec // far below 2^63
	return diskfs.Ordered{FS: s.prealloc, Fatal: s.fatal}
}

// spaceAboveMinFree returns how many bytes are free above [Config.MinFree].
func (s *Store) spaceAboveMinFree() (uint64, error) {
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

// Dir returns the data directory.
func (s *Store) Dir() string { return s.config.Dir }

// slowDisk is the duration from which a disk operation is logged.
const slowDisk = 5 * time.Second

// live reads the current state of a store. It allows a Reader to be made before the
// database is open.
type live struct{ store *Store }

func (l live) Get(key []byte) ([]byte, io.Closer, error) {
	l.store.pointReads.Add(1)
	return l.store.db.Get(key)
}

func (l live) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) { return l.store.db.NewIter(o) }

// Snapshot returns a snapshot of the applied commits.
func (s *Store) Snapshot() *Snapshot { return tables.NewSnapshot(s.db) }
