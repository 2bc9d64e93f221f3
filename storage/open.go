package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// MaxOpenFiles is the default limit of open tables.
const MaxOpenFiles = pebbledb.MaxOpenFiles

// Config configures a store.
type Config struct {
	// Dir is the data directory. It is created with mode 0700 if it does not exist.
	Dir string
	// FS is the file system of the database; nil is the real one. With another one there
	// is no lock, no ballast file and no check of free space.
	FS vfs.FS
	// Control opens the control file if FS is not the real file system.
	Control func() (ControlFile, error)
	// CacheBytes bounds the block cache and the memtables together (default 96 MiB).
	// Pebble reserves the memtables' memory in the cache, so a cache no larger than the
	// memtables caches nothing. MemTableBytes bounds one memtable (default 32 MiB).
	CacheBytes    int64
	MemTableBytes uint64
	// MaxOpenFiles bounds the number of open tables (default 1000).
	MaxOpenFiles int
	// MinFree is the free space in bytes below which sends are refused. Preallocated logs
	// need much more free space than that.
	MinFree uint64
	// Fatal is called after a disk failure that rules out further acknowledgements. It
	// must not return; nil panics.
	Fatal func(error)
	// NoSync commits without an fsync. It breaks durability on purpose: a test rig that
	// looks for losses must find some with it.
	NoSync bool
	// Logger receives Pebble's log lines; nil discards them.
	Logger *slog.Logger
}

// Store is an open data directory. Its methods are safe for concurrent use.
type Store struct {
	Reader

	config  Config
	logger  *slog.Logger
	db      *pebble.DB
	control *controlfile.Control
	// controlFile is the file behind control.
	controlFile controlfile.File
	meta        schema.Meta
	old         bool // the store has format 1 and was opened read-only
	ballast     *diskfs.Ballast
	full        diskFull
	held        *diskfs.DeferredRemove  // below the database
	prealloc    *diskfs.Prealloc        // below held; nil if FS is set
	compactions *diskfs.CompactionLimit // below prealloc; nil if FS is set
	closers     []io.Closer             // closed in reverse order, after the database
	writes      tables.Config
	// pointReads counts single-key reads.
	pointReads atomic.Uint64
}

func newStore(config Config) *Store {
	s := &Store{config: config, logger: config.Logger}
	s.Reader = tables.NewReader(live{s})
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.writes = tables.Config{NoSync: config.NoSync, Fatal: s.fatal, Logger: s.logger}
	return s
}

// NewBatch returns an empty batch for one commit. The caller closes it, committed or not.
func (s *Store) NewBatch() *Batch { return tables.NewBatch(s.db, &s.writes) }

// Open opens or creates the store. A store that holds less than the watermark says was
// acknowledged returns [ErrCorrupt].
func Open(config Config) (*Store, error) {
	s := newStore(config)
	s.full.opening.Store(true)
	if err := s.open(); err != nil {
		return nil, errors.Join(layout.MarkDiskFull(err), s.closeAll())
	}
	s.full.opening.Store(false)
	return s, nil
}

func (s *Store) open() error {
	if err := s.prepareDirectory(); err != nil {
		return err
	}
	if err := s.refuseHalfRepaired(); err != nil {
		return err
	}
	fresh, err := s.isFresh()
	if err != nil {
		return err
	}
	if fresh {
		if err := s.create(); err != nil {
			return fmt.Errorf("create the store in %s: %w", s.config.Dir, err)
		}
	}
	if err := s.openControl(); err != nil {
		return err
	}
	identity, err := controlfile.ReadIdentity(s.controlFile)
	if err != nil {
		return err
	}
	if s.db, err = s.openPebble(s.path(layout.MessagesDir), pebbledb.Open); err != nil {
		return err
	}
	return s.recover(identity)
}

func (s *Store) refuseHalfRepaired() error {
	cut, err := s.exists(layout.RepairName)
	if err == nil && cut {
		return fmt.Errorf("%w: a repair of %s was interrupted: run `messaging repair` again", layout.ErrCorrupt, s.config.Dir)
	}
	return err
}

// prepareDirectory creates the directory if needed, makes it private, locks it, and takes
// the ballast.
func (s *Store) prepareDirectory() error {
	if err := s.makeDirectory(s.config.Dir); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	if s.config.FS != nil {
		return nil
	}
	if err := layout.CheckOwned(s.config.Dir); err != nil {
		return err
	}
	if err := os.Chmod(s.config.Dir, 0o700); err != nil { //nolint:gosec // a directory needs its x bit
		return fmt.Errorf("make the data directory private: %w", err)
	}
	lock, err := layout.Lock(s.config.Dir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock)
	return s.useBallast()
}

// makeDirectory creates a directory and its missing parents. It syncs each parent, so
// that a crash cannot lose the name of the data directory.
func (s *Store) makeDirectory(dir string) error {
	fs := s.baseFS()
	if info, err := fs.Stat(dir); err == nil {
		if !info.IsDir() { // another file has this name; its mode must not change
			return &os.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := s.makeDirectory(parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return s.syncDir(parent)
}

// ballastSize is the space that Pebble needs to recover from a full disk: the memtables
// that it may have to flush, and the overhead of their tables.
func (s *Store) ballastSize() int64 {
	return int64(pebbledb.MaxMemTables*s.pebbleConfig(nil).MemTableSize()) + 64<<20 //nolint:gosec // far below 2^63
}

// isFresh reports whether there is no store yet. A store with one half missing is
// damaged, not fresh.
func (s *Store) isFresh() (bool, error) {
	hasMessages, err := s.exists(layout.MessagesDir)
	if err != nil {
		return false, err
	}
	hasControl, err := s.controlExists()
	if err != nil {
		return false, err
	}
	switch {
	case hasControl && !hasMessages:
		return false, fmt.Errorf("%w: %s exists and %s does not: put the missing directory back; %s",
			layout.ErrCorrupt, s.path(layout.ControlName), s.path(layout.MessagesDir), layout.HowToRepair)
	case hasMessages && !hasControl:
		return false, s.refuseWithoutControl()
	}
	return !hasControl, nil
}

// refuseWithoutControl handles a database without a control file. A crash during creation
// leaves one, because the database gets its name first. That database is empty, so the
// control file is created. A database with messages is refused.
func (s *Store) refuseWithoutControl() error {
	db, err := s.openPebble(s.path(layout.MessagesDir), pebbledb.Open)
	if err != nil {
		return err
	}
	s.db = db
	meta, err := tables.ReadMeta(s.Reader)
	s.db = nil
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if meta.Last != 0 {
		return fmt.Errorf("%w: %s exists and %s does not: put the missing file back; %s",
			layout.ErrCorrupt, s.path(layout.MessagesDir), s.path(layout.ControlName), layout.HowToRepair)
	}
	return s.createControl(meta.StoreID)
}

// create creates an empty store. The rename of the control file is the commit point. The
// next start finds what a crash before it left, and creates the store again.
func (s *Store) create() error {
	fs := s.baseFS()
	if err := fs.RemoveAll(s.path(layout.CreatingDir)); err != nil {
		return err
	}
	db, err := s.openPebble(s.path(layout.CreatingDir), pebbledb.Create)
	if err != nil {
		return err
	}
	id, err := uuid.NewV4()
	if err != nil {
		return errors.Join(err, db.Close())
	}
	value := make([]byte, schema.MetaLen)
	schema.Meta{StoreID: id, FirstSequence: 1}.Encode(value)
	err = db.Set([]byte{schema.TableMeta}, value, pebble.Sync)
	if err == nil {
		// The first WAL of a database is written in the old chunk format, in which a
		// flipped bit is not detected. After the flush only the new format is used.
		err = db.Flush()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := fs.Rename(s.path(layout.CreatingDir), s.path(layout.MessagesDir)); err != nil {
		return err
	}
	if err := s.syncDir(s.config.Dir); err != nil {
		return err
	}
	return s.createControl(id)
}

func (s *Store) createControl(id messaging.MessageID) error {
	if s.config.FS != nil {
		file, err := s.config.Control()
		if err != nil {
			return err
		}
		return controlfile.Init(file, id, controlfile.Watermark{})
	}
	return controlfile.Create(s.path(layout.ControlName), id, controlfile.Watermark{})
}

func (s *Store) openControl() error {
	var file controlfile.File
	var err error
	if s.config.FS != nil {
		file, err = s.config.Control()
	} else {
		file, err = controlfile.Open(s.path(layout.ControlName))
	}
	if err != nil {
		return err
	}
	s.controlFile, s.control = file, controlfile.New(file, s.fatal, s.releaseBallast)
	return nil
}

// Meta returns the meta record as recovered by [Open].
func (s *Store) Meta() schema.Meta { return s.meta }

// Control returns the control state.
func (s *Store) Control() *Control { return s.control }

// Close closes everything in the reverse order of Open.
func (s *Store) Close() error {
	s.StopWaiting()
	return s.closeAll()
}

func (s *Store) closeAll() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.controlFile != nil {
		errs = append(errs, s.controlFile.Close())
	}
	for _, v := range slices.Backward(s.closers) {
		errs = append(errs, v.Close())
	}
	return errors.Join(errs...)
}

// fatal ends the process through [Config.Fatal].
func (s *Store) fatal(doing string, err error) {
	err = layout.MarkDiskFull(fmt.Errorf("%s: %w", doing, err))
	if s.config.Fatal != nil {
		s.config.Fatal(err)
	}
	panic(err) //nolint:forbidigo // continuing would acknowledge writes that are not on disk
}
