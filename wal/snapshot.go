package wal

import (
	"slices"
	"sync"
	"time"

	"github.com/stayafrica/messaging/storage"
)

// Snapshot is the store as of a durable commit: it has nothing that a crash could undo. It
// keeps data on disk that was removed since, so a reader holds it for one page only (1,000
// rows, 8 MiB, a second), and never while waiting or writing to a network. Its methods are
// safe for concurrent use until Release.
type Snapshot struct {
	storage.Reader

	// Commit is the number of the last commit in the snapshot. The snapshot has the
	// records from FirstSequence to Last.
	Commit, FirstSequence, Last uint64

	trimmed uint64 // as [Log.Trimmed]
	owner   *snapshots
	closer  *storage.Snapshot
	taken   time.Time
	holders int // under the owner's lock
}

// Snapshot returns the newest durable snapshot, which many readers share. Release it soon.
func (l *Log) Snapshot() *Snapshot {
	s := &l.snapshots
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil { // the log is closed: no commit follows
		x := s.take(l.store, l.commits, &l.meta)
		x.holders = 1
		return x
	}
	s.current.holders++
	return s.current
}

// Release ends a reader's use of the snapshot.
func (x *Snapshot) Release() {
	s := x.owner
	s.mu.Lock()
	x.holders--
	free, over := x.holders == 0 && x != s.current, s.current == nil
	if free && over {
		s.forgetLocked(x)
	}
	s.mu.Unlock()
	if !free {
		return
	}
	if over {
		s.close(x)
	}
	select {
	case s.released <- struct{}{}:
	default:
	}
}

// Bounds of retired snapshots: those that are no longer the newest.
const (
	// retiredFor is how long they are kept. Closing the oldest snapshot makes Pebble look
	// for compactions under its lock, so many are closed together.
	retiredFor = 100 * time.Millisecond
	// maxRetired is the number above which they are closed before that time.
	maxRetired = 1024
	// closeWait is how long closing the log waits for readers.
	closeWait = 5 * time.Second
)

// snapshots holds the open snapshots.
type snapshots struct {
	released chan struct{} // the last holder of a retired snapshot has released it

	mu        sync.Mutex
	current   *Snapshot   // nil once the log is closed
	retired   []*Snapshot // in the order of their commits
	scheduled bool        // a timer to close retired ones is running
}

func newSnapshots() snapshots { return snapshots{released: make(chan struct{}, 1)} }

// take takes a snapshot of the applied state. The publisher calls it while no other commit
// can be applied.
func (s *snapshots) take(store *storage.Store, commit uint64, meta *storage.Meta) *Snapshot {
	x := store.Snapshot()
	return &Snapshot{
		Reader: x.Reader, Commit: commit, FirstSequence: meta.FirstSequence, Last: meta.Last, trimmed: meta.Trimmed,
		owner: s, closer: x, taken: time.Now(),
	}
}

// publish makes x the snapshot that readers get.
func (s *snapshots) publish(x *Snapshot) {
	s.mu.Lock()
	if s.current != nil {
		s.retired = append(s.retired, s.current)
	}
	s.current = x
	tooMany := len(s.retired) > maxRetired
	if !s.scheduled && len(s.retired) > 0 {
		s.scheduled = true
		time.AfterFunc(retiredFor, s.closeSome)
	}
	s.mu.Unlock()
	if tooMany {
		s.closeRetired()
	}
}

// closeSome closes the retired snapshots, and schedules itself again if some are still
// held.
func (s *snapshots) closeSome() {
	s.closeRetired()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scheduled = len(s.retired) > 0 && s.current != nil; s.scheduled {
		time.AfterFunc(retiredFor, s.closeSome)
	}
}

// closeRetired closes the retired snapshots without holders, newest first. Closing the
// oldest makes Pebble look for compactions; in this order it does so once. Readers do not
// wait for it. It returns how many are left.
func (s *snapshots) closeRetired() (left int) {
	var free []*Snapshot
	s.mu.Lock()
	s.retired = slices.DeleteFunc(s.retired, func(x *Snapshot) bool {
		if x.holders > 0 {
			return false
		}
		free = append(free, x)
		return true
	})
	left = len(s.retired)
	s.mu.Unlock()
	for _, x := range slices.Backward(free) {
		s.close(x)
	}
	return left
}

func (s *snapshots) forgetLocked(x *Snapshot) {
	if at := slices.Index(s.retired, x); at >= 0 {
		s.retired = slices.Delete(s.retired, at, at+1)
	}
}

// close closes a snapshot. Pebble returns no error for an open one.
func (s *snapshots) close(x *Snapshot) { _ = x.closer.Close() }

// waitForReaders returns when only the newest snapshot is open, done is closed, or the
// time within has passed.
func (s *snapshots) waitForReaders(done <-chan struct{}, within time.Duration) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		if s.closeRetired() == 0 {
			return
		}
		select {
		case <-s.released:
		case <-timeout.C:
			return
		case <-done:
			return
		}
	}
}

// WaitForReaders returns when no reader holds a snapshot older than the last durable
// commit, when done is closed, or after a few seconds. After it, the space of what was
// removed can be reclaimed.
func (l *Log) WaitForReaders(done <-chan struct{}) { l.snapshots.waitForReaders(done, closeWait) }

// OldestSnapshot returns how long the oldest retired snapshot has been open, or 0 if there
// is none.
func (l *Log) OldestSnapshot() time.Duration {
	s := &l.snapshots
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.retired) == 0 {
		return 0
	}
	return time.Since(s.retired[0].taken)
}

// end closes all snapshots. No commit follows.
func (s *snapshots) end() {
	s.mu.Lock()
	s.retired = append(s.retired, s.current)
	s.current = nil
	s.mu.Unlock()
	s.waitForReaders(nil, closeWait)
}
