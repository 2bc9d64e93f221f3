package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

const (
	// clearStep is how many entries one commit removes, and clearQueues is from how many
	// queues at most.
	clearStep   = 1024
	clearQueues = 256
)

// Clear removes all messages of a user's queue, including leased and delayed ones, and
// returns their number. The drain still delivers them to the backend.
//
// The commit point is the mark: from then on, an entry at or below it is not delivered,
// counted, evicted, made due or found. [Engine.FinishClears] removes the entries and their
// timers afterwards, and the mark with the last of them. After a crash before that, the
// next run finds the mark and continues.
func (e *Engine) Clear(user messaging.UserID) (uint64, error) {
	q, err := e.queues.pin(user)
	if err != nil {
		return 0, internal(err)
	}
	defer e.queues.unpin(q)
	c := &clearChange{engine: e, queue: q}
	if err := e.log.Commit(c); err != nil {
		return 0, err
	}
	e.counters.cleared.Add(c.cleared)
	return c.cleared, nil
}

// clearChange marks everything in a queue as cleared.
type clearChange struct {
	engine  *Engine
	queue   *queue
	cleared uint64
	mark    clearMark
	walk    *clearWalk // nil if there was nothing to clear
	first   bool       // the queue had no unfinished clear
}

// Records implements [wal.Change]. It returns none.
func (c *clearChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. It also clears messages that are being written to a
// reader; the reader still gets them.
func (c *clearChange) Stage(tx *wal.Tx) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.cleared = q.state.Total(); c.cleared == 0 {
		return
	}
	c.mark = clearMark{upTo: tx.Last, began: tx.Commit}
	tx.PutClear(storage.Clear{User: q.user, UpTo: c.mark.upTo})
	c.engine.trimmer.journal.noteCleared(q.user)
	tx.AddQueued(-int64(c.cleared)) //nolint:gosec // a count of what is on disk
	for _, held := range q.claimed {
		c.engine.endLease(held.lease)
	}
	q.state = storage.QueueState{}
	q.claimed, q.removed, q.arrivals = nil, nil, nil
	q.prefetched = [messaging.Priorities]prefetch{}
	q.claimedSequences, q.requeued = [messaging.Priorities]sequences{}, [messaging.Priorities]sequences{}
	if c.walk, c.first = q.cleared.walk, !q.clearingLocked(); c.first {
		c.walk = &clearWalk{queue: q}
		c.engine.queues.pinAgain(q) // until the mark is removed
	}
	q.cleared = clearing{clearMark: c.mark, walk: c.walk}
	c.engine.touchLocked(q)
}

// OnDurable implements [wal.Change]. Every marked entry is on disk now.
func (c *clearChange) OnDurable() {
	if c.walk != nil {
		c.engine.clears.add(c.walk, c.mark, c.first)
	}
}

// clearMark says that every entry of a queue at or below upTo is cleared.
type clearMark struct {
	upTo  uint64
	began uint64 // the commit that wrote it; 0 if an earlier run wrote it
}

// clearing is the last clear of a queue. For a reader whose snapshot is older than the
// commit that finishes the clear, an entry at or below the mark counts as removed. The
// clearing stays until no reader has such a snapshot.
type clearing struct {
	clearMark

	walk     *clearWalk
	finished uint64 // the commit that removes the last entries and the mark; 0 before it
}

// clearingLocked reports whether the queue has an unfinished clear. During it, nothing is
// enqueued at or below the mark.
func (q *queue) clearingLocked() bool { return q.cleared.upTo > 0 && q.cleared.finished == 0 }

// markedLocked reports whether an entry would be enqueued at or below the mark of an
// unfinished clear.
func (q *queue) markedLocked(seq uint64) bool { return q.clearingLocked() && seq <= q.cleared.upTo }

// clears holds the queues with a mark. Each is pinned until its mark is removed.
type clears struct {
	mu      sync.Mutex
	waiting []*clearWalk
	changed chan struct{}
	// step is held while entries are read and removed. So no other step removes what one
	// step has read, and no message returns to a queue in between.
	step waitLock
}

// clearWalk is the progress of removing one queue's cleared entries.
type clearWalk struct {
	queue *queue
	// mark is the last durable mark. A new mark starts the walk again.
	mark clearMark
	// Owned by the holder of step: the mark of the current walk, its progress, and whether
	// the mark is removed.
	walked   clearMark
	keyRange int // which key range is walked, below clearRanges
	from     uint64
	done     bool
}

// add registers a durable mark. A second clear of a queue raises its mark.
func (c *clears) add(w *clearWalk, mark clearMark, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.mark = mark
	if first {
		c.waiting = append(c.waiting, w)
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// next returns the first n waiting walks. They stay in waiting.
func (c *clears) next(n int) []*clearWalk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.waiting[:min(n, len(c.waiting))])
}

// walk returns the walk of a queue, or nil.
func (c *clears) walk(q *queue) *clearWalk {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.waiting, func(w *clearWalk) bool { return w.queue == q })
	if at < 0 {
		return nil
	}
	return c.waiting[at]
}

// turn removes finished walks and moves the others to the end, so that a queue with many
// entries does not delay the others.
func (c *clears) turn(walks []*clearWalk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := func(w *clearWalk) bool { return slices.Contains(walks, w) }
	c.waiting = slices.DeleteFunc(c.waiting, in)
	for _, w := range walks {
		if !w.done {
			c.waiting = append(c.waiting, w)
		}
	}
}

// findClears resumes the clears that an earlier run did not finish.
func (e *Engine) findClears() error {
	marks, err := e.store.Clears()
	if err != nil {
		return err
	}
	for _, mark := range marks {
		q, err := e.queues.pin(mark.User) // until the mark is removed
		if err != nil {
			return err
		}
		q.mu.Lock()
		walk := &clearWalk{queue: q}
		q.cleared = clearing{clearMark: clearMark{upTo: mark.UpTo}, walk: walk}
		q.mu.Unlock()
		e.clears.add(walk, clearMark{upTo: mark.UpTo}, true)
	}
	return nil
}

// FinishClears removes the entries that clears have marked, until the context ends.
func (e *Engine) FinishClears(ctx context.Context) error {
	for {
		for walks := e.clears.next(clearQueues); len(walks) > 0 && ctx.Err() == nil; walks = e.clears.next(clearQueues) {
			if err := e.clearStep(walks); messaging.CodeOf(err) == messaging.CodeShuttingDown {
				return nil
			} else if err != nil {
				return fmt.Errorf("remove cleared messages: %w", err)
			}
		}
		if !sleepUntil(ctx, time.Time{}, e.clears.changed) {
			return nil
		}
	}
}

// A message that comes back into a queue at or below a mark would count as cleared. Its
// change waits for at most clearsAwaited steps of the clear, and at most clearWait.
const (
	clearsAwaited = 8
	clearWait     = 250 * time.Millisecond
)

// awaitClears finishes the clears of queues, within bounds: a clear may be large, and
// others may follow it. The caller checks the mark again in its commit.
func (e *Engine) awaitClears(queues []*queue) error {
	until, steps := time.Now().Add(clearWait), 0
	for _, q := range queues {
		for q.isClearing() && steps < clearsAwaited && time.Now().Before(until) {
			w := e.clears.walk(q)
			if w == nil { // its mark is not durable yet
				time.Sleep(time.Millisecond)
				continue
			}
			steps++
			if err := e.clearStep([]*clearWalk{w}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *queue) isClearing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.clearingLocked()
}

// clearStep removes up to clearStep marked entries in one commit. The entries are read
// before the commit: while a mark exists, nothing else writes at or below it.
func (e *Engine) clearStep(walks []*clearWalk) error {
	e.clears.step.lock()
	defer e.clears.step.unlock()
	walks = slices.DeleteFunc(walks, func(w *clearWalk) bool { return w.done })
	c := &finishChange{engine: e}
	for i, w := range walks {
		if c.entries == clearStep {
			walks = walks[:i]
			break
		}
		part, err := e.readMarked(w, clearStep-c.entries)
		if err != nil {
			return err
		}
		c.parts = append(c.parts, part)
		c.entries += len(part.entries)
	}
	if len(walks) == 0 {
		return nil
	}
	if err := e.log.CommitUnbounded(c); err != nil {
		return err
	}
	for _, part := range c.parts {
		w := part.walk
		w.walked, w.keyRange, w.from, w.done = part.mark, part.keyRange, part.from, part.done
	}
	e.clears.turn(walks)
	return nil
}

// clearRanges is the number of key ranges of a queue: one per index and priority.
const clearRanges = 2 * messaging.Priorities

func clearRange(n int) (storage.Index, messaging.Priority) {
	index := storage.Queued
	if n >= messaging.Priorities {
		index = storage.Delayed
	}
	return index, messaging.Priority(n % messaging.Priorities) //nolint:gosec // one of three
}

// readMarked reads up to limit marked entries of a queue.
func (e *Engine) readMarked(w *clearWalk, limit int) (clearPart, error) {
	e.clears.mu.Lock()
	part := clearPart{walk: w, mark: w.mark, keyRange: w.keyRange, from: w.from}
	e.clears.mu.Unlock()
	if w.walked != part.mark {
		part.keyRange, part.from = 0, 0
	}
	for part.keyRange < clearRanges && len(part.entries) < limit {
		index, p := clearRange(part.keyRange)
		err := e.store.Entries(index, w.queue.user, p, part.from, part.mark.upTo+1, func(seq uint64, entry storage.Entry) bool {
			part.entries = append(part.entries, queueEntry{index, p, seq, entry})
			part.from = seq + 1
			return len(part.entries) < limit
		})
		if err != nil {
			return part, err
		}
		if len(part.entries) < limit {
			part.keyRange, part.from = part.keyRange+1, 0
		}
	}
	return part, nil
}

// finishChange removes marked entries from the disk.
type finishChange struct {
	engine  *Engine
	parts   []clearPart
	entries int
}

// clearPart is what one step removes from one queue, and where the next step begins.
type clearPart struct {
	walk     *clearWalk
	mark     clearMark
	entries  []queueEntry
	keyRange int
	from     uint64
	done     bool
}

// Records implements [wal.Change]. It returns none.
func (c *finishChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *finishChange) Stage(tx *wal.Tx) {
	for i := range c.parts {
		part := &c.parts[i]
		q := part.walk.queue
		for _, a := range part.entries {
			deleteEntry(tx, q.user, a)
		}
		if part.keyRange < clearRanges {
			continue
		}
		q.mu.Lock()
		// A clear since the read has raised the mark. Entries that it marks may not have
		// been on disk then, so the walk starts again.
		if part.done = q.cleared.clearMark == part.mark; part.done {
			tx.DeleteClear(q.user)
			q.cleared.finished = tx.Commit
			c.engine.touchLocked(q)
		}
		q.mu.Unlock()
	}
}

// OnDurable implements [wal.Change].
func (c *finishChange) OnDurable() {
	for _, part := range c.parts {
		if part.done {
			c.engine.queues.unpin(part.walk.queue)
		}
	}
}

// deleteEntry removes an entry with its timers. Every removal of an entry removes its
// timers in the same commit.
func deleteEntry(tx *wal.Tx, user messaging.UserID, a queueEntry) {
	tx.DeleteEntry(a.index, user, a.priority, a.sequence)
	if a.index == storage.Delayed {
		tx.DeleteTimer(storage.Due, storage.Timer{At: a.entry.Due, Sequence: a.sequence, User: user})
	}
	if a.entry.Expires != 0 {
		tx.DeleteTimer(storage.Expiry, storage.Timer{At: a.entry.Expires, Sequence: a.sequence, User: user})
	}
}
