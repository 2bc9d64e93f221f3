package repair

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// A repair builds a new store next to the damaged one from everything that can be read,
// and then replaces the damaged one:
//
//	messages.repaired/    the new database
//	control.db.repaired   the new control file
//	aside-<time>/         the old files go here; nothing is deleted
//	repair                the name of that directory, while files are moved
//
// The commit point is the file `repair`. Before it exists, nothing of the old store was
// touched, and the next repair starts over after an interruption. Once it exists, the
// next repair continues moving files, and a service refuses to start.
const (
	repairedDir      = layout.MessagesDir + ".repaired"
	repairedControl  = layout.ControlName + ".repaired"
	quarantinePrefix = "aside-"
)

// Repaired is the result of a repair.
type Repaired struct {
	// Before is the problems before the repair.
	Before fsck.Report `json:"before"`
	// Quarantine is the directory with the damaged files. It is empty if there was
	// nothing to repair.
	Quarantine string `json:"aside,omitempty"`
	// Lost is the sequences whose messages could not be read, as ranges.
	Lost []LostRange `json:"lost"`
	// Changes describes the other corrections.
	Changes []string `json:"changes"`
	// After is the result of a check after the repair.
	After fsck.Report `json:"after"`
}

// LostRange is a range of sequences, including both ends.
type LostRange struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Repair repairs a store that no process has open. It keeps everything that can be read,
// and quarantines and reports the rest. It does not change an undamaged store. It needs
// about as much free space as the store uses. If it fails, the store is unchanged or the
// error says to run the repair again.
func Repair(config fsck.Config) (done Repaired, err error) {
	if !layout.HasStore(config.Dir) {
		return done, layout.NoStore(config.Dir)
	}
	lock, err := layout.Lock(config.Dir)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	err = newRepairer(config, &done).run()
	return done, err
}

// repairer repairs one store.
type repairer struct {
	config fsck.Config
	done   *Repaired
	state  oldState      // what could be read of the old control file
	db     *pebble.DB    // the new database
	into   tables.Reader // reads db
	writes tables.Config
	// meta is the meta record of db.
	meta    schema.Meta
	drained uint64 // the drain's position must not be higher; 0 is no limit
	// metaVersion is the version of the old meta record, or 0 if it cannot be read.
	metaVersion byte
}

func newRepairer(config fsck.Config, done *Repaired) *repairer {
	return &repairer{config: config, done: done, writes: tables.Config{Fatal: fail, Logger: slog.New(slog.DiscardHandler)}}
}

func (r *repairer) path(name string) string { return filepath.Join(r.config.Dir, name) }

func (r *repairer) exists(name string) (bool, error) {
	_, err := os.Stat(r.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (r *repairer) newBatch() *tables.Batch { return tables.NewBatch(r.db, &r.writes) }

func (r *repairer) run() error {
	cut, err := r.exists(layout.RepairName)
	if err != nil {
		return err
	}
	if !cut {
		r.done.Before = r.check()
		r.done.Lost, r.done.Changes = []LostRange{}, []string{}
		if r.done.Before.Found == 0 {
			r.done.After = r.done.Before
			return nil
		}
		if err := r.build(); err != nil {
			return fmt.Errorf("the store is unchanged: %w", errors.Join(err, r.removeNew()))
		}
	}
	if err := r.replace(); err != nil {
		return fmt.Errorf("run the repair again: %w", err)
	}
	r.done.After = r.check()
	return nil
}

func (r *repairer) check() fsck.Report {
	report, err := fsck.VerifyLocked(r.config)
	if err != nil {
		report.Add(layout.MessagesDir, "%v", err)
	}
	return report
}

// removeNew removes the files of a repair that did not reach its commit point.
func (r *repairer) removeNew() error {
	var errs []error
	for _, name := range []string{repairedDir, repairedControl, repairedControl + ".new", layout.RepairName + ".new"} {
		errs = append(errs, os.RemoveAll(r.path(name)))
	}
	return errors.Join(errs...)
}

// makeQuarantine creates an empty directory for the old files.
func (r *repairer) makeQuarantine() error {
	stamp := quarantinePrefix + time.Now().UTC().Format("20060102T150405Z")
	r.done.Quarantine = stamp
	for n := 2; ; n++ {
		err := os.Mkdir(r.path(r.done.Quarantine), 0o700)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		r.done.Quarantine = fmt.Sprintf("%s-%d", stamp, n)
	}
}

// note writes the file that is the commit point. It has the name of the quarantine.
func (r *repairer) note(aside string) error {
	temporary := r.path(layout.RepairName + ".new")
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(aside)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, r.path(layout.RepairName)); err != nil {
		return err
	}
	return diskfs.SyncDir(vfs.Default, r.config.Dir)
}

// replace moves the old files into quarantine and the new ones into place. It can be
// interrupted at any moment and called again.
func (r *repairer) replace() error {
	aside, err := os.ReadFile(r.path(layout.RepairName))
	if err != nil {
		return err
	}
	r.done.Quarantine = string(aside)
	for _, move := range [][2]string{
		{layout.MessagesDir, repairedDir}, {layout.ControlName, repairedControl},
	} {
		if has, err := r.exists(move[1]); err != nil || !has {
			if err != nil {
				return err
			}
			continue // already moved
		}
		old, kept := r.path(move[0]), filepath.Join(r.path(r.done.Quarantine), move[0])
		if err := os.Rename(old, kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(r.path(move[1]), old); err != nil {
			return err
		}
	}
	if err := errors.Join(diskfs.SyncDir(vfs.Default, r.path(r.done.Quarantine)), diskfs.SyncDir(vfs.Default, r.config.Dir)); err != nil {
		return err
	}
	if err := os.Remove(r.path(layout.RepairName)); err != nil {
		return err
	}
	return diskfs.SyncDir(vfs.Default, r.config.Dir)
}

func (r *repairer) change(what string, args ...any) {
	r.done.Changes = append(r.done.Changes, fmt.Sprintf(what, args...))
}
