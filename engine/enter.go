package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// enter puts a message into a queue, within a commit: among those to be handed
// out, or those due later. The queue is pinned by the change.
func (e *Engine) enter(tx *wal.Tx, q *queue, p messaging.Priority, seq uint64, entry storage.Entry, fresh bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.enterLocked(tx, q, p, seq, entry, fresh)
}

func (e *Engine) enterLocked(tx *wal.Tx, q *queue, p messaging.Priority, seq uint64, entry storage.Entry, fresh bool) {
	shelf := storage.Queued
	if entry.Due != 0 {
		shelf = storage.Delayed
		e.putTimer(tx, storage.Due, storage.Timer{At: entry.Due, Sequence: seq, User: q.user}, p)
	}
	if entry.Expires != 0 {
		e.putTimer(tx, storage.Expiry, storage.Timer{At: entry.Expires, Sequence: seq, User: q.user}, p)
	}
	q.arriveLocked(arrival{shelf, p, seq, entry}, tx.Commit, fresh)
	tx.PutEntry(shelf, q.user, p, seq, entry)
	tx.AddQueued(1)
	e.touchLocked(q)
}

// removeLocked takes an entry out of its queue for good, within a commit.
func (e *Engine) removeLocked(tx *wal.Tx, q *queue, shelf storage.Shelf, p messaging.Priority, seq uint64, entry storage.Entry) {
	tx.DeleteEntry(shelf, q.user, p, seq)
	if shelf == storage.Delayed {
		tx.DeleteTimer(storage.Due, storage.Timer{At: entry.Due, Sequence: seq, User: q.user})
	}
	if entry.Expires != 0 {
		tx.DeleteTimer(storage.Expiry, storage.Timer{At: entry.Expires, Sequence: seq, User: q.user})
	}
	q.state.On(shelf).Counts[p]--
	e.endLease(q.forgetLocked(p, seq))
	q.noteLocked(seq, recent{commit: tx.Commit, priority: p})
	tx.AddQueued(-1)
	e.touchLocked(q)
}

// moveLocked takes an entry from one shelf to the other, within a commit. The
// entry says by its due time which one it comes to.
func (e *Engine) moveLocked(tx *wal.Tx, q *queue, from storage.Shelf, p messaging.Priority, seq uint64, before, after storage.Entry) {
	tx.DeleteEntry(from, q.user, p, seq)
	if from == storage.Delayed {
		tx.DeleteTimer(storage.Due, storage.Timer{At: before.Due, Sequence: seq, User: q.user})
	}
	q.state.On(from).Counts[p]--
	e.endLease(q.forgetLocked(p, seq))
	tx.AddQueued(-1)
	e.enterLocked(tx, q, p, seq, after, false)
}

// whereLocked says where an entry stands, commits that are under way included.
// It is the committer's: nothing moves meanwhile.
func (e *Engine) whereLocked(q *queue, p messaging.Priority, seq uint64) (shelf storage.Shelf, entry storage.Entry, ok bool, err error) {
	if o := q.out[seq]; o != nil {
		return storage.Queued, o.entry, true, nil
	}
	if r, moved := q.recent[seq]; moved {
		return r.shelf, r.entry, r.shelf != 0, nil
	}
	// Once a clear is durable the disk knows better: what came back since is there.
	if !q.cleared.durable && q.voidLocked(seq) {
		return 0, storage.Entry{}, false, nil
	}
	for _, shelf := range []storage.Shelf{storage.Queued, storage.Delayed} {
		if q.state.On(shelf).Counts[p] == 0 {
			continue
		}
		entry, ok, err = e.store.Entry(shelf, q.user, p, seq)
		if ok || err != nil {
			return shelf, entry, ok, err
		}
	}
	return 0, storage.Entry{}, false, nil
}

// touchLocked notes that the commit changes what a queue amounts to. The queue
// stays pinned until the commit is durable.
func (e *Engine) touchLocked(q *queue) {
	if !q.dirty {
		q.dirty = true
		e.queues.pinAgain(q)
		e.dirty = append(e.dirty, touched{queue: q})
	}
}

// touched is a queue that a commit changes.
type touched struct {
	queue   *queue
	arrived bool // something may be handed out
}

// finish ends a commit: each queue that it touched lets go of what is too much
// and is written once, in the order of the keys.
func (e *Engine) finish(tx *wal.Tx) (published func()) {
	dirty := e.dirty
	slices.SortFunc(dirty, func(a, b touched) int { return cmp.Compare(a.queue.user, b.queue.user) })
	for i := range dirty {
		q := dirty[i].queue
		q.mu.Lock()
		e.evictLocked(tx, q)
		q.settleHeadsLocked()
		tx.PutUser(q.user, &q.state)
		for _, a := range q.arrivals {
			dirty[i].arrived = dirty[i].arrived || a.shelf == storage.Queued
		}
		q.dirty, q.arrivals = false, nil
		q.mu.Unlock()
	}
	e.dirty = nil
	earliest := e.earliest
	e.earliest = noTimers()
	return func() {
		for _, t := range dirty {
			t.queue.published(tx.Commit, t.arrived)
			e.queues.unpin(t.queue)
		}
		e.timers.note(earliest)
	}
}

// evictLocked removes the oldest messages of the lowest priority present while
// there are too many: those due later and those under a lease among them. What
// is being handed out is on its way out already and is passed over.
func (e *Engine) evictLocked(tx *wal.Tx, q *queue) {
	for p := messaging.Low; q.state.Total() > e.config.QueueMax; p-- {
		oldest, err := e.oldestLocked(q, p, int(min(q.state.Total()-e.config.QueueMax, math.MaxInt32)))
		if err != nil {
			e.logger.Error("a full queue could not be read to make room in it", "error", err)
			return
		}
		for _, a := range oldest {
			e.removeLocked(tx, q, a.shelf, p, a.sequence, a.entry)
			e.counters.evicted.Add(1)
			// Nothing older of this priority is left on its shelf but what someone has.
			switch {
			case a.shelf == storage.Delayed:
				q.state.Delayed.Heads[p] = max(q.state.Delayed.Heads[p], a.sequence+1)
			case a.sequence >= q.cursor[p]:
				q.passLocked(p, a.sequence)
			}
		}
		if p == messaging.High {
			return
		}
	}
}

// oldestLocked finds the oldest entries of a priority, on disk and among those
// that the commit brings.
func (e *Engine) oldestLocked(q *queue, p messaging.Priority, limit int) (oldest []arrival, err error) {
	for _, a := range q.arrivals {
		if a.priority == p && q.standsLocked(a) {
			oldest = append(oldest, a)
		}
	}
	for _, shelf := range []storage.Shelf{storage.Queued, storage.Delayed} {
		if q.state.On(shelf).Counts[p] == 0 {
			continue
		}
		found := 0
		err = e.store.Entries(shelf, q.user, p, q.headLocked(shelf, p), math.MaxUint64, func(seq uint64, entry storage.Entry) bool {
			if a := (arrival{shelf, p, seq, entry}); q.standsLocked(a) && !q.bringsLocked(a) {
				oldest = append(oldest, a)
				found++
			}
			return found < limit
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(oldest, func(a, b arrival) int { return cmp.Compare(a.sequence, b.sequence) })
	return oldest[:min(limit, len(oldest))], nil
}

// headLocked is where the entries of a shelf begin on disk.
func (q *queue) headLocked(shelf storage.Shelf, p messaging.Priority) uint64 {
	if shelf == storage.Delayed {
		return q.state.Delayed.Heads[p]
	}
	return q.outBy[p].orMin(q.returned[p].orMin(q.entering[p].orMin(q.cursor[p])))
}

// standsLocked says whether an entry that was found is where it was found, and
// is not being handed out.
func (q *queue) standsLocked(a arrival) bool {
	if r, moved := q.recent[a.sequence]; (moved && r.shelf != a.shelf) || (!q.cleared.durable && q.voidLocked(a.sequence)) {
		return false
	}
	o := q.out[a.sequence]
	return o == nil || o.lease != nil
}

// bringsLocked says whether the commit that is being made brings an entry.
func (q *queue) bringsLocked(a arrival) bool {
	if _, moved := q.recent[a.sequence]; !moved {
		return false // what is fresh is on no disk yet
	}
	return slices.ContainsFunc(q.arrivals, func(b arrival) bool { return a.sequence == b.sequence && a.shelf == b.shelf })
}
