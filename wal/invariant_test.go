package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// walSyncs is a file system that calls sync before each sync of a write-ahead log. If sync
// returns an error, so does the sync.
func walSyncs(fs vfs.FS, sync func() error) vfs.FS {
	syncs := []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slices.Contains(syncs, op.Kind) && strings.HasSuffix(op.Path, ".log") {
			return sync()
		}
		return nil
	}))
}

// openOn opens a log on a file system and its control file.
func openOn(t *testing.T, fs vfs.FS, control *storage.MemoryControl, fatal func(error)) (*Log, *storage.Store) {
	t.Helper()
	store, err := storage.Open(storage.Config{Dir: "/data", FS: fs, Control: control.Open, MemTableBytes: 1 << 20, Fatal: fatal})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	return l, store
}

func closeBoth(t *testing.T, l *Log, store *storage.Store) {
	t.Helper()
	if err := errors.Join(l.Close(), store.Close()); err != nil {
		t.Error(err)
	}
}

func commitSome(t *testing.T, l *Log, n int) {
	t.Helper()
	for range n {
		if err := l.Commit(&appended{record: record(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantReadable expects exactly the messages 1 to last.
func wantReadable(t *testing.T, l *Log, last uint64) {
	t.Helper()
	page, _, err := l.Read(messaging.Position{Sequence: 1}, 1000, 1<<20)
	if err != nil || uint64(len(page)) != last {
		t.Errorf("%d messages can be read (%v), want %d", len(page), err, last)
	}
	for i, m := range page {
		if m.Position.Sequence != uint64(i+1) {
			t.Errorf("message %d has the sequence %d", i+1, m.Position.Sequence)
		}
	}
}

func TestInvariant1SuccessFollowsTheFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		fs := walSyncs(vfs.NewMem(), func() error {
			if slow.Load() {
				time.Sleep(time.Minute)
			}
			return nil
		})
		l, store := openOn(t, fs, storage.NewMemoryControl(), nil)
		commitSome(t, l, 3)
		synctest.Wait()
		slow.Store(true)
		answered := make(chan error, 1)
		go func() { answered <- l.Commit(&appended{record: record(time.Now())}) }()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if len(answered) > 0 {
			t.Error("Commit returned during the fsync")
		}
		if l.Durable() != 3 {
			t.Errorf("%d counts as durable during the fsync", l.Durable())
		}
		wantReadable(t, l, 3)
		time.Sleep(2 * time.Second)
		if err := <-answered; err != nil {
			t.Error(err)
		}
		wantReadable(t, l, 4)
		slow.Store(false)
		closeBoth(t, l, store)
	})
}

// trimming is a change by which retention removes everything below the first sequence.
type trimming struct{ first uint64 }

func (c *trimming) Records() []Record { return nil }
func (c *trimming) Stage(tx *Tx) {
	for seq := tx.FirstSequence(); seq < c.first; seq++ {
		tx.CountTrimmed(seq)
	}
	tx.TrimLog(c.first, time.Now().Add(time.Hour).UnixMilli())
	tx.SetFirstSequence(c.first)
}
func (c *trimming) OnDurable() {}

func TestInvariant2SequencesContinueAcrossRestartsAndAnEmptyLog(t *testing.T) {
	fs, control := vfs.NewMem(), storage.NewMemoryControl()
	for round := range uint64(3) {
		l, store := openOn(t, fs, control, nil)
		for n := range uint64(5) {
			c := &appended{record: record(time.Now())}
			if err := l.Commit(c); err != nil || c.sequence != round*5+n+1 {
				t.Errorf("round %d: commit %d has the sequence %d (%v)", round, n, c.sequence, err)
			}
		}
		if err := l.Commit(&trimming{first: l.Durable() + 1}); err != nil {
			t.Fatal(err)
		}
		if page, _, err := l.Read(messaging.Position{}, 10, 1<<20); err != nil || len(page) != 0 {
			t.Errorf("round %d: the log is not empty: %d (%v)", round, len(page), err)
		}
		closeBoth(t, l, store)
	}
}

var errBrokenDisk = errors.New("input/output error")

// The fsync of a commit fails. Then the disk may hold the commit or not; what was
// acknowledged before is there in either case.
func TestInvariant7FailedSyncEndsTheProcess(t *testing.T) {
	for _, unsynced := range []int{0, 50, 100} {
		t.Run(fmt.Sprintf("%d%% of the unsynced data is on disk", unsynced), func(t *testing.T) {
			disk, control := vfs.NewCrashableMem(), storage.NewMemoryControl()
			var broken atomic.Bool
			fatal := make(chan error, 10)
			l, _ := openOn(t, walSyncs(disk, func() error {
				if broken.Load() {
					return errBrokenDisk
				}
				return nil
			}), control, func(err error) {
				fatal <- err
				select {} // it must not return: the process would have ended
			})
			commitSome(t, l, 5)
			broken.Store(true)
			answered := make(chan error, 2)
			for range cap(answered) {
				go func() { answered <- l.Commit(&appended{record: record(time.Now())}) }()
			}
			select {
			case err := <-fatal:
				if !errors.Is(err, errBrokenDisk) {
					t.Errorf("the process ends with %v", err)
				}
			case err := <-answered:
				t.Fatalf("Commit returned (%v) after a failed sync", err)
			}
			broken.Store(false) // a disk that seems to work again changes nothing
			time.Sleep(50 * time.Millisecond)
			if len(answered) > 0 || l.Durable() != 5 {
				t.Errorf("%d commits returned, durable up to %d, after a sync had failed", len(answered), l.Durable())
			}
			crashed := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, 2))})
			again, store := openOn(t, crashed, control.Clone(), nil)
			defer closeBoth(t, again, store)
			if again.Durable() < 5 || again.Durable() > 7 {
				t.Errorf("after the restart the log ends at %d", again.Durable())
			}
			wantReadable(t, again, again.Durable())
		})
	}
}
