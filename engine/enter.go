package engine

import (
	"cmp"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// enter puts a message into a queue, within a commit, and lets go of what is
// then too much. The queue is pinned until the commit was published.
func (e *Engine) enter(tx *wal.Tx, q *queue, p messaging.Priority, seq uint64, entry storage.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.insertLocked(p, seq, tx.Commit)
	tx.PutEntry(q.user, p, seq, entry)
	tx.AddQueued(1)
	for q.state.Total() > e.config.QueueMax && e.evictLocked(tx, q) {
		e.counters.evicted.Add(1)
	}
	e.touchLocked(q)
}

// touchLocked notes that the commit changes what a queue amounts to.
func (e *Engine) touchLocked(q *queue) {
	if !q.dirty {
		q.dirty = true
		e.dirty = append(e.dirty, q)
	}
}

// putUsers ends a commit: each queue that it touched is written once, in the
// order of the keys.
func (e *Engine) putUsers(tx *wal.Tx) {
	slices.SortFunc(e.dirty, func(a, b *queue) int { return cmp.Compare(a.user, b.user) })
	for i, q := range e.dirty {
		q.mu.Lock()
		q.dirty = false
		tx.PutUser(q.user, &q.state)
		q.mu.Unlock()
		e.dirty[i] = nil
	}
	e.dirty = e.dirty[:0]
}

// evictLocked removes the oldest message of the lowest priority present. What
// is being handed out is on its way out already and is passed over; false says
// that there is nothing else.
func (e *Engine) evictLocked(tx *wal.Tx, q *queue) bool {
	for p := messaging.Low; ; p-- {
		if q.availableLocked(p) > 0 {
			if seq, ok := e.oldestLocked(q, p); ok {
				q.removeLocked(q.leaveLocked(p, seq), tx.Commit)
				q.cursor[p] = max(q.cursor[p], seq+1)
				q.settleHeadsLocked()
				tx.DeleteEntry(q.user, p, seq)
				tx.AddQueued(-1)
				return true
			}
		}
		if p == messaging.High {
			return false
		}
	}
}

// oldestLocked finds the oldest entry of a priority that may be handed out: on
// disk, or else among those of the commits under way.
func (e *Engine) oldestLocked(q *queue, p messaging.Priority) (seq uint64, found bool) {
	for _, s := range q.staged[p] {
		if q.leaving[s.sequence] == nil && (!found || s.sequence < seq) {
			seq, found = s.sequence, true
		}
	}
	err := e.store.Entries(q.user, p, q.cursor[p], e.log.Durable()+1, func(s uint64, _ storage.Entry) bool {
		if q.leaving[s] != nil {
			return true
		}
		if !found || s < seq {
			seq, found = s, true
		}
		return false
	})
	if err != nil {
		e.logger.Error("a full queue could not be read to make room in it", "error", err)
		return 0, false
	}
	return seq, found
}
