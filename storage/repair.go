package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging"
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
// touched, and a repair that was cut off begins anew; from it on a repair that
// was cut off goes on moving, and a service refuses to start meanwhile.
const (
	repairedDir     = messagesDir + ".repaired"
	repairedControl = controlName + ".repaired"
	asidePrefix     = "aside-"
)

// Repaired is what a repair did.
type Repaired struct {
	// Before is what was wrong.
	Before Report `json:"before"`
	// Aside is the directory to which the damaged files went; empty where there
	// was nothing to repair.
	Aside string `json:"aside,omitempty"`
	// Lost are the sequences whose messages could not be read, as ranges.
	Lost []LostRange `json:"lost"`
	// Changes are what else was put right.
	Changes []string `json:"changes"`
	// After is what a check found when it was done.
	After Report `json:"after"`
}

// LostRange is a range of sequences, both ends included.
type LostRange struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Repair makes a store whole again that no process has open: what can be read is
// kept, the rest is put aside and told. A store that is whole is left as it is.
// It needs about as much free space as the store has. Where it fails, the store
// is as it was, or the error says to run it again.
func Repair(config CheckConfig) (done Repaired, err error) {
	if !hasStore(config.Dir) {
		return done, noStore(config.Dir)
	}
	lock, err := lockFile(filepath.Join(config.Dir, lockName))
	if err != nil {
		return done, err
	}
	r := newRepairer(config, &done)
	defer func() { err = errors.Join(err, r.store.closeAll(), lock.Close()) }()
	return done, r.run()
}

// repairer repairs one store.
type repairer struct {
	config  CheckConfig
	done    *Repaired
	store   *Store   // the damaged one; only its paths are used
	into    *Store   // the new one
	state   oldState // what the old control file says
	meta    Meta     // of the new one
	drained uint64   // the drain must begin no later: 0 is anywhere
}

func newRepairer(config CheckConfig, done *Repaired) *repairer {
	return &repairer{config: config, done: done, store: &Store{
		config: Config{Dir: config.Dir, CacheBytes: 64 << 20, MemTableBytes: repairMemTable}, logger: slog.New(slog.DiscardHandler),
	}}
}

func (r *repairer) run() error {
	cut, err := r.store.exists(repairName)
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

func (r *repairer) check() Report {
	report := Report{Problems: []Problem{}}
	v := newVerifier(r.config, &report)
	v.all()
	if err := v.close(); err != nil {
		report.add(messagesDir, "%v", err)
	}
	return report
}

// removeNew removes what a repair has made that did not come to its commit point.
func (r *repairer) removeNew() error {
	var errs []error
	for _, name := range []string{repairedDir, repairedControl, repairedControl + ".new", repairName + ".new"} {
		errs = append(errs, os.RemoveAll(r.store.path(name)))
	}
	return errors.Join(errs...)
}

// build makes the new store and the note that begins the move.
func (r *repairer) build() error {
	if err := errors.Join(r.removeNew(), r.store.refuseNewerFormat(r.store.path(messagesDir))); err != nil {
		return err
	}
	if err := r.wantSpace(); err != nil {
		return err
	}
	if r.state = r.readControl(); r.state.newer != nil {
		return r.state.newer
	}
	if err := r.buildMessages(); err != nil {
		return err
	}
	if err := r.buildControl(); err != nil {
		return err
	}
	if err := r.makeAside(); err != nil {
		return err
	}
	return r.note(r.done.Aside)
}

// makeAside makes the directory for the old files: one that nothing is in yet.
func (r *repairer) makeAside() error {
	stamp := asidePrefix + time.Now().UTC().Format("20060102T150405Z")
	r.done.Aside = stamp
	for n := 2; ; n++ {
		err := os.Mkdir(r.store.path(r.done.Aside), 0o700)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		r.done.Aside = fmt.Sprintf("%s-%d", stamp, n)
	}
}

// wantSpace refuses to begin what would fill the disk.
func (r *repairer) wantSpace() error {
	var size uint64
	err := filepath.WalkDir(r.store.path(messagesDir), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what is not there takes no room
		}
		if info, err := e.Info(); err == nil {
			size += uint64(info.Size()) //nolint:gosec // not negative
		}
		return nil
	})
	free, freeErr := Free(r.config.Dir)
	if err = errors.Join(err, freeErr); err != nil {
		return err
	}
	if need := size + size/8 + repairRoom; free < need {
		return fmt.Errorf("%w: a repair needs about %d MiB, and %d MiB are free", ErrDiskFull, need>>20, free>>20)
	}
	return nil
}

// write makes a batch durable and empties it. It ends the repair where the disk
// fills up: the library would wait for room for ever.
func (r *repairer) write(batch *Batch) {
	if free, err := Free(r.config.Dir); err == nil && free < repairRoom/2 {
		panic(repairFailed{fmt.Errorf("%w: %d MiB are free", ErrDiskFull, free>>20)}) //nolint:forbidigo // to the recover of buildMessages
	}
	batch.Commit()
	batch.Reset()
}

// writeLarge is write for a batch that has grown large enough.
func (r *repairer) writeLarge(batch *Batch) {
	if batch.Len() > repairBatch {
		r.write(batch)
	}
}

// note makes the commit point durable: where the old files go.
func (r *repairer) note(aside string) error {
	temporary := r.store.path(repairName + ".new")
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(aside)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, r.store.path(repairName)); err != nil {
		return err
	}
	return r.store.syncDir(r.config.Dir)
}

// replace moves the old files aside and the new ones in their places. It may be
// cut off at any moment and called again.
func (r *repairer) replace() error {
	aside, err := os.ReadFile(r.store.path(repairName))
	if err != nil {
		return err
	}
	r.done.Aside = string(aside)
	for _, move := range [][2]string{
		{messagesDir, repairedDir}, {controlName, repairedControl},
	} {
		if has, err := r.store.exists(move[1]); err != nil || !has {
			if err != nil {
				return err
			}
			continue // it was moved before
		}
		old, kept := r.store.path(move[0]), filepath.Join(r.store.path(r.done.Aside), move[0])
		if err := os.Rename(old, kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(r.store.path(move[1]), old); err != nil {
			return err
		}
	}
	if err := errors.Join(r.store.syncDir(r.store.path(r.done.Aside)), r.store.syncDir(r.config.Dir)); err != nil {
		return err
	}
	if err := os.Remove(r.store.path(repairName)); err != nil {
		return err
	}
	return r.store.syncDir(r.config.Dir)
}

// buildMessages copies what can be read of the messages, and puts right what does
// not fit together.
func (r *repairer) buildMessages() (err error) {
	r.into = &Store{config: r.store.config, logger: r.store.logger}
	r.into.config.Fatal = func(err error) { panic(repairFailed{err}) } //nolint:forbidigo // out of a batch, to the recover below
	defer func() {
		switch p := recover().(type) {
		case nil:
		case repairFailed:
			err = p.err
		default:
			panic(p) //nolint:forbidigo // not ours
		}
		err = errors.Join(err, r.into.closeAll())
		r.into.db, r.into.closers = nil, nil
	}()
	if r.into.db, err = r.into.openPebble(r.store.path(repairedDir), false); err != nil {
		return err
	}
	// As when a store is made: nothing may stand in the first write-ahead log.
	if err := errors.Join(r.into.db.Set([]byte{tableMeta}, make([]byte, metaLen), pebble.Sync), r.into.db.Flush()); err != nil {
		return err
	}
	if err := r.copyKeys(); err != nil {
		return err
	}
	if err := r.mend(); err != nil {
		return err
	}
	return r.into.db.Flush()
}

// repairFailed carries what a batch could not do out of it.
type repairFailed struct{ err error }

const (
	// repairBatch is how many bytes are written at a time.
	repairBatch = 4 << 20
	// repairMemTable bounds the memtables of a store that is made by a repair.
	repairMemTable = 4 << 20
	// repairRoom is what must be free beside the size of the store. Of half of it
	// what is in memory can still be written.
	repairRoom = 64 << 20
)

func (r *repairer) change(what string, args ...any) {
	r.done.Changes = append(r.done.Changes, fmt.Sprintf(what, args...))
}

// position is where the drain goes on: no later than it had come, and before all
// of which the receivers were put together anew.
func (r *repairer) position() messaging.Position {
	p := r.state.position
	if r.drained > 0 && p.Sequence > r.drained {
		p = messaging.Position{Sequence: r.drained}
	}
	if p.Sequence > r.meta.Last+1 {
		p = messaging.Position{Sequence: r.meta.Last + 1}
	}
	return p
}
