package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// Pinned says how many holds there are on queues: at rest one for each lease.
func (e *Engine) Pinned() (pins int) {
	for i := range e.queues.shards {
		s := &e.queues.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			pins += q.pins
		}
		s.mu.Unlock()
	}
	return pins
}

// Unreachable says what is wrong with what the queues in memory know of their
// entries on disk (invariants 2 and 6 of a queue); "" for nothing. It is for a rest:
// nothing may be staged.
func (e *Engine) Unreachable() (wrong string) {
	for i := range e.queues.shards {
		s := &e.queues.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			for p := messaging.High; p <= messaging.Low && wrong == ""; p++ {
				wrong = e.unreachable(q, p)
			}
		}
		s.mu.Unlock()
	}
	return wrong
}

func (e *Engine) unreachable(q *queue, p messaging.Priority) (wrong string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.loaded || q.dirty {
		return ""
	}
	h, known := &q.ahead[p], 0
	err := e.store.Entries(storage.Queued, q.user, p, 0, math.MaxUint64, func(seq uint64, entry storage.Entry) bool {
		at, found := h.search(seq)
		switch {
		case found && h.list[at].entry != entry:
			wrong = fmt.Sprintf("%s: entry %d of priority %d is %+v and is known as %+v", q.user, seq, p, entry, h.list[at].entry)
		case found:
			known++
		case q.out[seq] != nil || slices.Contains(q.returned[p], seq):
		case seq < q.cursor[p]:
			wrong = fmt.Sprintf("%s: entry %d of priority %d stands before the cursor %d, and nobody knows of it", q.user, seq, p, q.cursor[p])
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
