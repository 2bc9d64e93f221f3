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

// A repair builds a new store beside the damaged one, of all that can be read,
// and then puts it in its place:
//
//	messages.repaired/    the new database
//	control.db.repaired   the new control file
//	aside-<time>/         where the old ones go; nothing is deleted
//	repair                the name of that directory, while files are moved
//
// The commit point is the file `repair`: before it nothing of the old store was
// touched, and a repair that was cut off begins again; from it on a repair that
// was cut off goes on moving, and a service refuses to start meanwhile.
const (
	repairedDir      = layout.MessagesDir + ".repaired"
	repairedControl  = layout.ControlName + ".repaired"
	quarantinePrefix = "aside-"
)

// Repaired is what a repair did.
type Repaired struct {
	// Before is what was wrong.
	Before fsck.Report `json:"before"`
	// Aside is the directory to which the damaged files went; empty where there
	// was nothing to repair.
	Quarantine string `json:"aside,omitempty"`
	// Lost are the sequences whose messages could not be read, as ranges.
	Lost []LostRange `json:"lost"`
	// Changes are what else was put right.
	Changes []string `json:"changes"`
	// After is what a check found when it was done.
	After fsck.Report `json:"after"`
}

// LostRange is a range of sequences, both ends included.
type LostRange struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Repair makes a store whole again that no process has open: what can be read is
// kept, the rest is quarantined and reported. A store that is whole is left as it is.
// It needs about as much free space as the store has. Where it fails, the store
// is as it was, or the error says to run it again.
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
	state  oldState      // what the old control file says
	db     *pebble.DB    // the new database
	into   tables.Reader // reads it
	writes tables.Config
	// meta is the meta record of the new database.
	meta    schema.Meta
	drained uint64 // the drain must begin no later: 0 is anywhere
	// metaVersion is that of the old meta record; 0 where it cannot be read.
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
			return fmt.Errorf("the store is as it was: %w", errors.Join(err, r.removeNew()))
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

// removeNew removes what a repair has made that did not come to its commit point.
func (r *repairer) removeNew() error {
	var errs []error
	for _, name := range []string{repairedDir, repairedControl, repairedControl + ".new", layout.RepairName + ".new"} {
		errs = append(errs, os.RemoveAll(r.path(name)))
	}
	return errors.Join(errs...)
}

// makeQuarantine makes the directory for the old files: one that nothing is in yet.
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

// note makes the commit point durable: where the old files go.
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

// replace moves the old files into quarantine and the new ones in their places. It may be
// cut off at any moment and called again.
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
			continue // it was moved before
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
