package wal

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage"
)

// older returns how many snapshots are open besides the newest.
func (s *snapshots) older() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.retired)
}

// A snapshot has what was durable when it was taken: neither writes that wait for their
// fsync nor later ones.
func TestSnapshotHasExactlyTheDurableCommits(t *testing.T) {
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
		go func() { _ = l.Commit(&appended{record: record(time.Now())}) }()
		time.Sleep(time.Second)
		before := l.Snapshot()
		wantLast(t, before, 3)
		if _, err := store.Record(4); err != nil {
			t.Errorf("message 4 was not applied yet, so the test is void (%v)", err)
		}
		time.Sleep(2 * time.Minute)
		slow.Store(false)
		after := l.Snapshot()
		wantLast(t, after, 4)
		wantLast(t, before, 3)
		if after.Commit <= before.Commit {
			t.Errorf("commit %d comes after %d", after.Commit, before.Commit)
		}
		before.Release()
		after.Release()
		closeBoth(t, l, store)
	})
}

func wantLast(t *testing.T, s *Snapshot, last uint64) {
	t.Helper()
	_, err := s.Record(last)
	_, moreErr := s.Record(last + 1)
	if s.Last != last || err != nil || moreErr == nil {
		t.Errorf("the snapshot ends at %d (%v, %v), want %d", s.Last, err, moreErr, last)
	}
}

// A change finds its commit in the snapshot when its OnDurable is called.
func TestSnapshotIsPublishedBeforeOnDurable(t *testing.T) {
	l := open(t)
	for range 50 {
		c := &appended{record: record(time.Now())}
		c.published = func() {
			s := l.Snapshot()
			defer s.Release()
			if s.Last < c.sequence {
				t.Errorf("message %d is published, and the snapshot ends at %d", c.sequence, s.Last)
			}
		}
		if err := l.Commit(c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshotsAreClosedSoonUnlessTheyAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := openOn(t, vfs.NewMem(), storage.NewMemoryControl(), nil)
		read := l.Snapshot()
		commitSome(t, l, 10)
		synctest.Wait()
		if n := l.snapshots.older(); n != 10 {
			t.Errorf("%d older snapshots are open, want 10 for a tenth of a second", n)
		}
		time.Sleep(2 * retiredFor)
		if n := l.snapshots.older(); n != 1 {
			t.Errorf("%d older snapshots are open, want the one that is read", n)
		}
		if age := l.OldestSnapshot(); age < 2*retiredFor {
			t.Errorf("the oldest snapshot is %v old", age)
		}
		read.Release()
		time.Sleep(2 * retiredFor)
		if n, age := l.snapshots.older(), l.OldestSnapshot(); n != 0 || age != 0 {
			t.Errorf("%d older snapshots are open, the oldest for %v", n, age)
		}
		closeBoth(t, l, store)
	})
}

func TestSnapshotsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in a bubble, no time passes
		l, store := openOn(t, vfs.NewMem(), storage.NewMemoryControl(), nil)
		commitSome(t, l, 2*maxRetired)
		synctest.Wait()
		if n := l.snapshots.older(); n > maxRetired {
			t.Errorf("%d older snapshots are open, want at most %d", n, maxRetired)
		}
		closeBoth(t, l, store)
	})
}

func TestWaitForReadersWaitsForOlderSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := openOn(t, vfs.NewMem(), storage.NewMemoryControl(), nil)
		read := l.Snapshot()
		commitSome(t, l, 1)
		done := make(chan struct{})
		go func() {
			l.WaitForReaders(nil)
			close(done)
		}()
		time.Sleep(time.Second)
		select {
		case <-done:
			t.Error("WaitForReaders did not wait for a reader")
		default:
		}
		read.Release()
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("WaitForReaders waits without a reader")
		}
		closeBoth(t, l, store)
	})
}

// A reader after the log is closed gets its final state. A late reader does not prevent
// closing the store.
func TestSnapshotOfAClosedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := openOn(t, vfs.NewMem(), storage.NewMemoryControl(), nil)
		commitSome(t, l, 2)
		late := l.Snapshot()
		go func() {
			time.Sleep(time.Second)
			late.Release()
		}()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		s := l.Snapshot()
		wantLast(t, s, 2)
		s.Release()
		closeBoth(t, l, store)
	})
}
