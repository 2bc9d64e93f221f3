package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// enqueue puts a message into a queue within a commit: into the queued index, or into the
// delayed one if it is due later. The change has pinned the queue. fresh is false for a
// message that a fan-out brings; it counts as cleared if its sequence is at or below the
// mark of an unfinished clear.
func (e *Engine) enqueue(tx *wal.Tx, q *queue, p messaging.Priority, seq uint64, entry storage.Entry, fresh bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !fresh && q.markedLocked(seq) {
		e.counters.cleared.Add(1)
		return
	}
	e.enqueueLocked(tx, q, p, seq, entry, fresh)
}

func (e *Engine) enqueueLocked(tx *wal.Tx, q *queue, p messaging.Priority, seq uint64, entry storage.Entry, fresh bool) {
	index := storage.Queued
	if entry.Due != 0 {
		index = storage.Delayed
		e.putTimer(tx, storage.Due, storage.Timer{At: entry.Due, Sequence: seq, User: q.user}, p)
	}
	if entry.Expires != 0 {
		e.putTimer(tx, storage.Expiry, storage.Timer{At: entry.Expires, Sequence: seq, User: q.user}, p)
	}
	if !fresh {
		e.trimmer.journal.noteEnqueued(seq)
	}
	q.arriveLocked(arrival{queueEntry: queueEntry{index, p, seq, entry}, commit: tx.Commit})
	tx.PutEntry(index, q.user, p, seq, entry)
	tx.AddQueued(1)
	e.touchLocked(q)
}

// removeLocked removes an entry from its queue, within a commit.
func (e *Engine) removeLocked(tx *wal.Tx, q *queue, index storage.Index, p messaging.Priority, seq uint64, entry storage.Entry) {
	deleteEntry(tx, q.user, queueEntry{index, p, seq, entry})
	e.trimmer.journal.noteRemoved(seq, q.user)
	q.state.On(index).Counts[p]--
	e.endLease(q.leaveLocked(p, seq, tx.Commit))
	tx.AddQueued(-1)
	e.touchLocked(q)
}

// moveLocked moves an entry to the index that its new due time determines, within a
// commit.
func (e *Engine) moveLocked(tx *wal.Tx, q *queue, from storage.Index, p messaging.Priority, seq uint64, before, after storage.Entry) {
	tx.DeleteEntry(from, q.user, p, seq)
	if from == storage.Delayed {
		tx.DeleteTimer(storage.Due, storage.Timer{At: before.Due, Sequence: seq, User: q.user})
	}
	e.trimmer.journal.noteRemoved(seq, q.user)
	q.state.On(from).Counts[p]--
	e.endLease(q.leaveLocked(p, seq, tx.Commit))
	tx.AddQueued(-1)
	e.enqueueLocked(tx, q, p, seq, after, false)
	q.arrivals[len(q.arrivals)-1].moved = true
}

// lookupLocked returns the index and the entry of a sequence, including commits that are
// not durable yet. The caller passes a reader and the number of the last commit that the
// reader has. The committer passes the store itself and the number of the commit before
// its own.
func (q *queue) lookupLocked(
	store storage.Reader, commit uint64, p messaging.Priority, seq uint64,
) (index storage.Index, entry storage.Entry, ok bool, err error) {
	if index, entry, ok, known := q.stagedLocked(commit, seq); known {
		return index, entry, ok, nil
	}
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		if q.state.On(index).Counts[p] == 0 {
			continue
		}
		entry, ok, err = store.Entry(index, q.user, p, seq)
		if ok || err != nil {
			return index, entry, ok, err
		}
	}
	return 0, storage.Entry{}, false, nil
}

// stagedLocked is lookupLocked without a read of the store; known reports whether the
// store need not be read.
func (q *queue) stagedLocked(commit, seq uint64) (index storage.Index, entry storage.Entry, ok, known bool) {
	if held := q.claimed[seq]; held != nil {
		return storage.Queued, held.entry, true, true
	}
	if at := q.arrivalLocked(seq); at >= 0 {
		a := &q.arrivals[at]
		return a.index, a.entry, true, true
	}
	return 0, storage.Entry{}, false, q.goneLocked(seq, commit)
}

// touchLocked records that the commit changes a queue's state. The queue stays pinned
// until the commit is durable.
func (e *Engine) touchLocked(q *queue) {
	if !q.dirty {
		q.dirty = true
		e.queues.pinAgain(q)
		e.dirty = append(e.dirty, q)
	}
}

// preCommit ends the staging of a commit. For each queue that the commit touched it evicts
// messages above the limit and writes the queue's state once, in key order.
func (e *Engine) preCommit(tx *wal.Tx) (onDurable func()) {
	dirty := e.dirty
	slices.SortFunc(dirty, func(a, b *queue) int { return cmp.Compare(a.user, b.user) })
	for _, q := range dirty {
		q.mu.Lock()
		e.evictLocked(tx, q)
		q.findHeadsLocked()
		tx.PutQueueState(q.user, &q.state)
		q.dirty = false
		q.mu.Unlock()
	}
	e.dirty = nil
	earliest := e.earliest
	e.earliest = noTimers()
	return func() {
		for _, q := range dirty {
			q.publish(tx.Commit)
			e.queues.unpin(q)
		}
		e.timers.note(earliest)
	}
}

// maxEvicted is how many messages one commit evicts from a queue that is over its limit,
// in addition to as many as the commit enqueues.
const maxEvicted = 1024

// evictLocked removes the oldest messages of the lowest priority present while the queue
// is over its limit, including delayed and leased ones. It skips messages that are being
// delivered, because they are about to leave the queue.
func (e *Engine) evictLocked(tx *wal.Tx, q *queue) {
	// The queue is over its limit by more than this commit enqueues only if the limit was
	// lowered.
	left := maxEvicted
	for _, a := range q.arrivals {
		if a.commit == tx.Commit {
			left++
		}
	}
	for p := messaging.Low; q.state.Total() > e.config.QueueMax && left > 0; p-- {
		oldest, err := e.oldestLocked(tx, q, p, int(min(q.state.Total()-e.config.QueueMax, uint64(left))))
		if err != nil {
			e.logger.Error("a full queue could not be read to evict messages from it", "error", err)
			return
		}
		left -= len(oldest)
		for _, a := range oldest {
			e.removeLocked(tx, q, a.index, p, a.sequence, a.entry)
			e.counters.evicted.Add(1)
			// No older entry of this priority is left in its index, except claimed ones.
			switch {
			case a.index == storage.Delayed:
				q.state.Delayed.Heads[p] = max(q.state.Delayed.Heads[p], a.sequence+1)
			case a.sequence >= q.cursor[p]:
				q.advanceLocked(p, a.sequence)
			}
		}
		if p == messaging.High {
			return
		}
	}
}

// oldestLocked returns the oldest entries of a priority, from the disk and from this
// commit.
func (e *Engine) oldestLocked(tx *wal.Tx, q *queue, p messaging.Priority, limit int) (oldest []queueEntry, err error) {
	for _, a := range q.arrivals {
		if a.priority == p && a.commit == tx.Commit {
			oldest = append(oldest, a.queueEntry)
		}
	}
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		if q.state.On(index).Counts[p] == 0 {
			continue
		}
		found := 0
		err = e.store.Entries(index, q.user, p, q.headLocked(index, p), math.MaxUint64, func(seq uint64, entry storage.Entry) bool {
			if q.mayBeEvictedLocked(seq, tx.Commit-1) {
				oldest = append(oldest, queueEntry{index, p, seq, entry})
				found++
			}
			return found < limit
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(oldest, func(a, b queueEntry) int { return cmp.Compare(a.sequence, b.sequence) })
	return oldest[:min(limit, len(oldest))], nil
}

// headLocked returns the sequence at which the entries of an index begin on disk.
func (q *queue) headLocked(index storage.Index, p messaging.Priority) uint64 {
	if index == storage.Delayed {
		return q.state.Delayed.Heads[p]
	}
	head := q.claimedSequences[p].orMin(q.requeued[p].orMin(q.cursor[p]))
	for _, a := range q.arrivals {
		if a.index == storage.Queued && a.priority == p {
			head = min(head, a.sequence)
		}
	}
	return head
}

// mayBeEvictedLocked reports whether an entry that was read from the store as of a commit
// is still queued and is not being delivered.
func (q *queue) mayBeEvictedLocked(seq, commit uint64) bool {
	held := q.claimed[seq]
	return !q.goneLocked(seq, commit) && (held == nil || held.lease != nil)
}
