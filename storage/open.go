package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
)

// What keeps a data directory from being opened. Each has an exit status of
// its own; the sentence of the error says what to do.
var (
	// ErrLocked says that another process has the directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrDamaged says that the store is damaged or holds less than was
	// acknowledged. Nothing was changed.
	ErrDamaged = errors.New("store is damaged")
	// ErrFormat says that the store is of a format that this program does not
	// know. Nothing was changed.
	ErrFormat = errors.New("store has an unknown format")
	// ErrDiskFull says that there is no room to open, or to write.
	ErrDiskFull error = &messaging.Error{Code: messaging.CodeDiskFull, Message: "the disk is full: nothing was stored; free some space"}
)

// howToRepair is what to do about damage, for a person.
const howToRepair = "restore it if you can; else `messaging verify` says what is wrong and `messaging repair` keeps what is whole; delete nothing"

// Format is the version of everything that is on disk.
const Format = 1

// pebbleFormat is pinned by its own name: FormatNewest moves with an upgrade
// of the library, and a database never moves back.
const pebbleFormat = pebble.FormatValueSeparation

// Config says where a store lives and what it may use.
type Config struct {
	// Dir is the data directory; it is made, with mode 0700, if it is not there.
	Dir string
	// FS is the file system of the database; nil is the real one. With another
	// one there is no lock, no reserve file and no check of free space.
	FS vfs.FS
	// Control opens the control file when FS is not the real file system.
	Control func() (ControlFile, error)
	// CacheBytes bounds the block cache and the memtables together (default 96
	// MiB): Pebble takes the memtables out of the cache, so a cache that is no
	// larger than they are caches nothing. MemTableBytes bounds one memtable
	// (default 32 MiB).
	CacheBytes    int64
	MemTableBytes uint64
	// MaxOpenFiles bounds the tables that are kept open (default 1000).
	MaxOpenFiles int
	// MinFree is the free space in bytes below which sends are refused: the spare
	// files for logs stay far above it.
	MinFree uint64
	// Fatal is called when the disk failed in a way after which nothing may be
	// acknowledged. It must not return; nil panics.
	Fatal func(error)
	// NoSync leaves commits to the operating system's mercy. It breaks the
	// promise, on purpose: a rig that looks for losses must find some with it.
	NoSync bool
	// Logger gets what Pebble has to say; nil discards it.
	Logger *slog.Logger
}

// Store is an open data directory. Its methods are safe for concurrent use.
type Store struct {
	config  Config
	logger  *slog.Logger
	db      *pebble.DB
	control *Control
	meta    Meta
	reserve *reserve
	full    fullness
	held    *heldFS     // below the database
	spares  *spareFS    // below that; nil where the file system is a given one
	closers []io.Closer // closed last to first, behind the database
	// failures counts how often in a row background work has failed.
	failures atomic.Int32
}

// Names of what stands in the data directory.
const (
	messagesDir = "messages"
	creatingDir = "messages.new"
	controlName = "control.db"
	lockName    = "LOCK"
	reserveName = "reserve"
	repairName  = "repair" // there while a repair puts files in their places
)

// Open opens or creates the store. What it finds must be whole: it holds at
// least what the watermark says was acknowledged, else [ErrDamaged].
func Open(config Config) (*Store, error) {
	s := &Store{config: config, logger: config.Logger}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.full.opening.Store(true)
	if err := s.open(); err != nil {
		if isDiskFull(err) && !errors.Is(err, ErrDiskFull) {
			err = fmt.Errorf("%w: %w", ErrDiskFull, err)
		}
		return nil, errors.Join(err, s.closeAll())
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
	identity, err := s.control.identity()
	if err != nil {
		return err
	}
	if s.db, err = s.openPebble(s.path(messagesDir), true); err != nil {
		return err
	}
	return s.recover(identity)
}

func (s *Store) refuseHalfRepaired() error {
	cut, err := s.exists(repairName)
	if err == nil && cut {
		return fmt.Errorf("%w: a repair of %s was cut off: run `messaging repair` again", ErrDamaged, s.config.Dir)
	}
	return err
}

// prepareDirectory makes the directory ours: there, private, locked, and with
// room to work in.
func (s *Store) prepareDirectory() error {
	if err := s.makeDirectory(s.config.Dir); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if s.config.FS != nil {
		return nil
	}
	if err := os.Chmod(s.config.Dir, 0o700); err != nil { //nolint:gosec // a directory needs its x
		return fmt.Errorf("make the data directory private: %w", err)
	}
	lock, err := lockFile(s.path(lockName))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock)
	return s.enterReserve()
}

// makeDirectory makes a directory and those above it, each durable in the one
// that it stands in: a crash must not take the name of the data directory.
func (s *Store) makeDirectory(dir string) error {
	fs := s.baseFS()
	if _, err := fs.Stat(dir); err == nil {
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

// reserveSize is what Pebble needs to get out of a full disk: the memtables
// that it may have to flush, and some room for their tables' overhead.
func (s *Store) reserveSize() int64 {
	return int64(memTablesMax*s.memTableBytes()) + 64<<20 //nolint:gosec // far below 2^63
}

// isFresh says whether there is no store yet. A store of which one half is
// missing is damaged, not fresh.
func (s *Store) isFresh() (bool, error) {
	hasMessages, err := s.exists(messagesDir)
	if err != nil {
		return false, err
	}
	hasControl, err := s.controlExists()
	if err != nil {
		return false, err
	}
	switch {
	case hasControl && !hasMessages:
		return false, fmt.Errorf("%w: %s is there and %s is not: put the missing directory back from where it went; %s",
			ErrDamaged, s.path(controlName), s.path(messagesDir), howToRepair)
	case hasMessages && !hasControl:
		return false, s.refuseWithoutControl()
	}
	return !hasControl, nil
}

// refuseWithoutControl decides what messages without a control file are. The
// directory of messages gets its name before the control file does, so a crash
// while creating leaves this, and then it is empty.
func (s *Store) refuseWithoutControl() error {
	db, err := s.openPebble(s.path(messagesDir), true)
	if err != nil {
		return err
	}
	s.db = db
	meta, err := s.readMeta()
	s.db = nil
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if meta.Last != 0 {
		return fmt.Errorf("%w: %s is there and %s is not: put the missing file back from where it went; %s",
			ErrDamaged, s.path(messagesDir), s.path(controlName), howToRepair)
	}
	return s.createControl(meta.StoreID)
}

// create makes an empty store. Its commit point is the name of the control
// file; what a crash before it leaves is recognized and made anew.
func (s *Store) create() error {
	fs := s.baseFS()
	if err := fs.RemoveAll(s.path(creatingDir)); err != nil {
		return err
	}
	db, err := s.openPebble(s.path(creatingDir), false)
	if err != nil {
		return err
	}
	id, err := uuid.NewV4()
	if err != nil {
		return errors.Join(err, db.Close())
	}
	value := make([]byte, metaLen)
	Meta{StoreID: id, Floor: 1}.encode(value)
	err = db.Set([]byte{tableMeta}, value, pebble.Sync)
	if err == nil {
		// The first WAL of a database is still written in old chunks, in which
		// a flipped bit goes unseen; from here on there is only the new format.
		err = db.Flush()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := fs.Rename(s.path(creatingDir), s.path(messagesDir)); err != nil {
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
		return (&Control{file: file}).create(id)
	}
	return createControlFile(s.path(controlName), id)
}

func (s *Store) openControl() error {
	var file ControlFile
	var err error
	if s.config.FS != nil {
		file, err = s.config.Control()
	} else {
		file, err = openControlFile(s.path(controlName))
	}
	if err != nil {
		return err
	}
	s.control = &Control{file: file, fatal: s.fatal, release: s.releaseReserve}
	return s.control.load()
}

// Meta gives what was recovered when the store was opened.
func (s *Store) Meta() Meta { return s.meta }

// Control gives the control state.
func (s *Store) Control() *Control { return s.control }

// Close closes everything, in the opposite order of Open.
func (s *Store) Close() error {
	s.StopWaiting()
	return s.closeAll()
}

func (s *Store) closeAll() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.control != nil {
		errs = append(errs, s.control.file.Close())
	}
	for _, v := range slices.Backward(s.closers) {
		errs = append(errs, v.Close())
	}
	return errors.Join(errs...)
}

// fatal ends the process through the configuration's hook.
func (s *Store) fatal(doing string, err error) {
	err = fmt.Errorf("%s: %w", doing, err)
	if isDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		err = fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	if s.config.Fatal != nil {
		s.config.Fatal(err)
	}
	panic(err) //nolint:forbidigo // going on would acknowledge what is not on disk
}

// slowDisk is when an operation of the disk is worth a line in the log.
const slowDisk = 5 * time.Second
