package engine

import (
	"math"
	"sync"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// queue is one user's queue: how many entries each priority has and where to
// look for them. The entries themselves are on disk.
//
// Invariants, under mu:
//
//  1. state counts every entry that is on disk or staged, and no other.
//  2. No entry of priority p that may be handed out is below cursor[p]; what is
//     below it is leaving.
//  3. leaving has every entry that was handed out and is not settled, and every
//     entry that was removed in a commit that is not yet durable or while a
//     reader may hold a page that is older than the removal.
//  4. staged has the entries of commits that are under way: readers must not see
//     them yet.
type queue struct {
	user messaging.UserID

	// The registry's, under its shard's lock.
	pins       int
	prev, next *queue

	// reading is held by the one reader that looks for messages. It is taken
	// before mu, and mu is not held while the disk is read: the committer needs it.
	reading sync.Mutex

	mu      sync.Mutex
	loaded  bool
	dirty   bool // the commit that is being made writes it
	state   storage.User
	cursor  [messaging.Priorities]uint64
	leaving map[uint64]*departure
	// busy counts, per priority, what is leaving and not gone.
	busy [messaging.Priorities]uint64
	// gone counts what is leaving and was removed.
	gone   int
	staged [messaging.Priorities][]arrival
	// lowered is the lowest sequence that came in (or came back) since the
	// reader began to look.
	lowered [messaging.Priorities]uint64
	readers bool
}

// departure is an entry on its way out.
type departure struct {
	priority messaging.Priority
	// gone says that it was removed, by whoever was first, in which commit, and
	// durable that this commit is on disk.
	gone, durable bool
	commit        uint64
}

// arrival is an entry that was staged, and in which commit.
type arrival struct{ sequence, commit uint64 }

// load reads the queue's state when it is not in memory.
func (q *queue) load(store *storage.Store) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.loaded {
		return nil
	}
	state, err := store.User(q.user)
	if err != nil {
		return err
	}
	q.state, q.cursor, q.loaded = state, state.Heads, true
	q.leaving = make(map[uint64]*departure)
	return nil
}

// insertLocked counts an entry in.
func (q *queue) insertLocked(p messaging.Priority, seq, commit uint64) {
	if q.state.Counts[p] == 0 {
		q.state.Heads[p], q.cursor[p] = seq, seq
	}
	q.state.Counts[p]++
	q.state.Heads[p] = min(q.state.Heads[p], seq)
	q.staged[p] = append(q.staged[p], arrival{seq, commit})
	q.lowerLocked(p, seq)
}

// lowerLocked makes readers look from seq on.
func (q *queue) lowerLocked(p messaging.Priority, seq uint64) {
	q.cursor[p] = min(q.cursor[p], seq)
	q.lowered[p] = min(q.lowered[p], seq)
}

// leaveLocked marks an entry as on its way out.
func (q *queue) leaveLocked(p messaging.Priority, seq uint64) *departure {
	d := &departure{priority: p}
	q.leaving[seq] = d
	q.busy[p]++
	return d
}

// returnLocked takes a leaving entry back.
func (q *queue) returnLocked(seq uint64, d *departure) {
	delete(q.leaving, seq)
	q.busy[d.priority]--
	q.lowerLocked(d.priority, seq)
}

// removeLocked counts a leaving entry out, once; false says that it is gone.
func (q *queue) removeLocked(d *departure, commit uint64) bool {
	if d.gone {
		return false
	}
	d.gone, d.commit = true, commit
	q.gone++
	q.busy[d.priority]--
	q.state.Counts[d.priority]--
	return true
}

// settleHeadsLocked moves the heads behind what was removed.
func (q *queue) settleHeadsLocked() {
	for p := range q.state.Heads {
		if q.state.Counts[p] == 0 {
			q.state.Heads[p] = 0
		} else {
			q.state.Heads[p] = q.cursor[p]
		}
	}
	for seq, d := range q.leaving {
		if !d.gone {
			q.state.Heads[d.priority] = min(q.state.Heads[d.priority], seq)
		}
	}
}

// availableLocked is how many entries of a priority may be handed out.
func (q *queue) availableLocked(p messaging.Priority) uint64 {
	return q.state.Counts[p] - q.busy[p]
}

// published forgets what mattered only until a commit was durable.
func (q *queue) published(commit uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.staged {
		n := 0
		for n < len(q.staged[p]) && q.staged[p][n].commit <= commit {
			n++
		}
		q.staged[p] = append(q.staged[p][:0], q.staged[p][n:]...)
	}
	if q.gone == 0 {
		return
	}
	for _, d := range q.leaving {
		d.durable = d.gone && d.commit <= commit
	}
	if !q.readers {
		q.sweepLocked()
	}
}

// sweepLocked forgets the entries whose removal is on disk.
func (q *queue) sweepLocked() {
	for seq, d := range q.leaving {
		if d.durable {
			q.gone--
			delete(q.leaving, seq)
		}
	}
}

// beginReadLocked and endReadLocked frame the time in which a reader's page may
// be older than the queue.
func (q *queue) beginReadLocked() {
	q.readers = true
	for p := range q.lowered {
		q.lowered[p] = math.MaxUint64
	}
}

func (q *queue) endReadLocked() { q.readers = false }
