package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// CheckConfig says what to check or to repair.
type CheckConfig struct {
	// Dir is the data directory.
	Dir string
	// Codec reads the records of the log.
	Codec Codec
	// Progress is told now and then how many records were looked at; nil is fine.
	Progress func(done, total uint64)
}

// Verify checks a store that no process has open: every file's checksums, every
// record, and whether all tables agree with each other. It changes nothing. What
// is wrong is in the report; an error says that it could not be looked at, such
// as [ErrLocked].
func Verify(config CheckConfig) (Report, error) {
	lock, err := lockToRead(config.Dir)
	if err != nil {
		return Report{}, err
	}
	defer lock.Close()
	report := Report{Problems: []Problem{}}
	v := newVerifier(config, &report)
	v.all()
	return report, v.close()
}

// verifier opens what can be opened of a store, to be read.
type verifier struct {
	*checker

	config CheckConfig
}

func newVerifier(config CheckConfig, report *Report) *verifier {
	s := &Store{config: Config{Dir: config.Dir, CacheBytes: 64 << 20}, logger: slog.New(slog.DiscardHandler)}
	v := &verifier{newChecker(s, config.Codec, report), config}
	v.progress = config.Progress
	return v
}

func (v *verifier) all() {
	if cut, err := v.store.exists(repairName); err != nil || cut {
		v.report.add(repairName, "a repair was cut off: run `messaging repair` again")
	}
	v.openControl()
	v.openMessages()
	if v.store.db != nil {
		v.checker.all()
	}
	if v.store.control != nil {
		v.checkControl()
	}
}

func (v *verifier) close() error {
	err := v.store.closeAll()
	v.store.db, v.store.control = nil, nil
	return err
}

func (v *verifier) openControl() {
	path := v.store.path(controlName)
	if err := checkBolt(path); err != nil {
		v.report.add(controlName, "%v", missing(err))
		return
	}
	options := boltOptions
	options.ReadOnly = true
	db, err := bbolt.Open(path, 0o600, &options)
	if err != nil {
		v.report.add(controlName, "cannot be opened: %v", err)
		return
	}
	v.store.control = &Control{file: boltFile{db}, fatal: v.store.fatal}
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errMissing
	}
	return err
}

var errMissing = errors.New("it is missing")

func (v *verifier) openMessages() {
	dir := v.store.path(messagesDir)
	db, err := v.store.readPebble(dir)
	if err != nil {
		if unopened, ok := errors.AsType[*unopenedError](err); ok {
			err = unopened.cause // the report is about damage, and comes with what to do
		}
		v.report.add(messagesDir, "cannot be opened: %v", err)
		v.tables(dir, nil)
		return
	}
	v.store.db = db
	live, err := liveTables(db)
	if err != nil {
		v.report.add(messagesDir, "does not say which tables it has: %v", err)
	}
	v.tables(dir, live)
}

// liveTables are the names of the files that a database reads.
func liveTables(db *pebble.DB) (map[string]bool, error) {
	levels, err := db.SSTables()
	live := make(map[string]bool)
	for _, level := range levels {
		for i := range level {
			live[fmt.Sprintf("%06d.sst", level[i].BackingSSTNum)] = true
		}
	}
	return live, err
}

// tables checks every block of the tables that are in use; nil is all of them.
func (v *verifier) tables(dir string, live map[string]bool) {
	names, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		v.report.add(messagesDir, "%v", err)
	}
	for _, name := range names {
		base := filepath.Base(name)
		if live != nil && !live[base] {
			v.unnamed(name)
			continue
		}
		if err := checkTable(name); err != nil {
			v.report.add(filepath.Join(messagesDir, base), "is damaged: %v", err)
		}
	}
}

// unnamed looks at a table that the manifest does not name. A crash leaves some, of
// which all is elsewhere too; one with newer records was forgotten with the end of
// the manifest.
func (v *verifier) unnamed(path string) {
	meta, err := v.store.readMeta()
	last := lastRecordIn(path)
	if err == nil && last > meta.Last {
		v.report.add(filepath.Join(messagesDir, filepath.Base(path)), "has records up to %d and is not named by the manifest, which is damaged", last)
	}
}

// checkTable checks all blocks of one table.
func checkTable(path string) error {
	r, _, err := openTable(path)
	if err != nil {
		return err
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

func noStore(dir string) error {
	return fmt.Errorf("there is no store in %s: name its directory by --data-dir or DATA_DIR", dir) //nolint:err113 // a sentence for a person
}

// lockToRead keeps a service from starting while its store is looked at, without
// writing anything.
func lockToRead(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.Open(dir); err != nil || !hasStore(dir) {
			return nil, noStore(dir)
		}
		return f, nil // its lock is gone with other files: nobody can have it
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s is held by %s; stop it first", ErrLocked, path, lockHolder(f)), f.Close())
	}
	return f, nil
}

func hasStore(dir string) bool {
	names, err := os.ReadDir(dir)
	for _, n := range names {
		if strings.HasPrefix(n.Name(), messagesDir) || n.Name() == controlName {
			return true
		}
	}
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}

// OpenToRead opens a store that no process has open, to look at it: nothing is
// written, and nothing is checked. Only the methods that read may be called.
func OpenToRead(dir string) (*Store, error) {
	lock, err := lockToRead(dir)
	if err != nil {
		return nil, err
	}
	report := Report{}
	v := newVerifier(CheckConfig{Dir: dir}, &report)
	s := v.store
	s.closers = append(s.closers, lock)
	v.openControl()
	if s.db, err = s.readPebble(s.path(messagesDir)); err == nil {
		s.meta, err = s.readMeta()
	}
	if err != nil || s.control == nil {
		return nil, errors.Join(fmt.Errorf("%w: it cannot be opened as it is: see `messaging verify`", ErrDamaged), err, s.closeAll())
	}
	return s, nil
}
