package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// Pinned returns the number of pins of queues, without those of unfinished clears. At rest
// each lease has one.
func (e *Engine) Pinned() (pins int) {
	for i := range e.queues.shards {
		s := &e.queues.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			pins += q.pins
		}
		s.mu.Unlock()
	}
	return pins - len(e.clears.next(math.MaxInt))
}

// Unreachable returns what is inconsistent between the queues in memory and their entries
// on disk (invariants 2 and 6 of a queue), or "". It is for an engine at rest: nothing may
// be staged.
func (e *Engine) Unreachable() (wrong string) {
	for i := range e.queues.shards {
		s := &e.queues.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			for p := messaging.High; p <= messaging.Low && wrong == ""; p++ {
				wrong = e.unreachable(q, p)
			}
			wrong = cmp.Or(wrong, q.wrongLeases())
		}
		s.mu.Unlock()
	}
	return wrong
}

// wrongLeases compares the count of a queue's leases with its leases.
func (q *queue) wrongLeases() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	leased := 0
	for _, o := range q.claimed {
		if o.lease != nil {
			leased++
		}
	}
	if q.leased == leased && q.leasing == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d leases are counted and %d being made; there are %d", q.user, q.leased, q.leasing, leased)
}

func (e *Engine) unreachable(q *queue, p messaging.Priority) (wrong string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.loaded || q.dirty {
		return ""
	}
	h, known := &q.prefetched[p], 0
	err := e.store.Entries(storage.Queued, q.user, p, 0, math.MaxUint64, func(seq uint64, entry storage.Entry) bool {
		at, found := h.search(seq)
		switch {
		case found && h.list[at].entry != entry:
			wrong = fmt.Sprintf("%s: entry %d of priority %d is %+v and is known as %+v", q.user, seq, p, entry, h.list[at].entry)
		case found:
			known++
		case q.markedLocked(seq):
		case q.claimed[seq] != nil || slices.Contains(q.requeued[p], seq):
		case seq < q.cursor[p]:
			wrong = fmt.Sprintf("%s: entry %d of priority %d is before the cursor %d, and is not in requeued", q.user, seq, p, q.cursor[p])
		case seq < h.end:
			wrong = fmt.Sprintf("%s: entry %d of priority %d is not known, though all below %d are", q.user, seq, p, h.end)
		}
		return wrong == ""
	})
	if err == nil && wrong == "" && known != len(h.list) {
		wrong = fmt.Sprintf("%s: of %d entries of priority %d that are known %d are there", q.user, len(h.list), p, known)
	}
	return wrong
}

// Expire removes the dead letters without a failure since a time.
func (d *DeadLetters) Expire(before time.Time) (int, error) { return d.expireDeadLetters(before) }
