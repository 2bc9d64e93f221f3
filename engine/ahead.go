package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// The entries that are next in a queue are known without reading the disk, where
// they came while the queue was in memory or were read along with others.
const (
	// maxAhead bounds them for one priority of a queue.
	maxAhead = 64
	// maxAheadInAll bounds them for all queues together: some 32 MiB.
	maxAheadInAll = 1 << 20
)

// ahead is what is known of one priority: the entries from the queue's cursor up
// to, not including, end. It has all of them that are on disk or staged, but for
// those that are on their way in (they are added when they are durable) and those
// that someone has. An end of 0 says that nothing is known.
type ahead struct {
	list []waiting
	end  uint64
}

// everything is the end of what is complete: nothing stands behind it, and what
// arrives is added to it.
const everything = math.MaxUint64

// waiting is an entry that waits to be handed out.
type waiting struct {
	sequence uint64
	entry    storage.Entry
}

// search finds where a sequence stands in the list, or would.
func (h *ahead) search(seq uint64) (at int, found bool) {
	return slices.BinarySearchFunc(h.list, seq, func(w waiting, seq uint64) int { return cmp.Compare(w.sequence, seq) })
}

// add adds an entry. One that is too much ends what is known.
func (h *ahead) add(w waiting, full bool) {
	if w.sequence >= h.end {
		return
	}
	at, found := h.search(w.sequence)
	switch {
	case found:
		h.list[at] = w
	case full || len(h.list) >= maxAhead:
		h.list, h.end = h.list[:at], w.sequence
	default:
		h.list = slices.Insert(h.list, at, w)
	}
}

// remove takes an entry out that has left the queue.
func (h *ahead) remove(seq uint64) {
	if at, found := h.search(seq); found {
		h.list = slices.Delete(h.list, at, at+1)
	}
}

// passTo takes out what is below the cursor.
func (h *ahead) passTo(cursor uint64) {
	if at, _ := h.search(cursor); at < len(h.list) {
		h.list = slices.Delete(h.list, 0, at)
		return
	}
	h.list = nil
}

// weighAheadLocked counts anew what the queue knows ahead, and says whether all
// queues together know as much as they may.
func (q *queue) weighAheadLocked() (full bool) {
	known := 0
	for p := range q.ahead {
		known += cap(q.ahead[p].list)
	}
	all := q.home.ahead.Add(int64(known - q.aheadCounted))
	q.aheadCounted = known
	return all >= maxAheadInAll
}

// addAheadLocked notes an entry that may be handed out, at or behind the cursor.
func (q *queue) addAheadLocked(p messaging.Priority, seq uint64, entry storage.Entry) {
	if h := &q.ahead[p]; seq < h.end {
		h.add(waiting{seq, entry}, q.weighAheadLocked())
	}
}

// foresight is what a look knows of one priority without reading the disk, and what
// it learns there for the next one.
type foresight struct {
	known []waiting // looked at before the disk
	from  uint64    // where the disk comes in
	end   uint64    // of what the queue knew
	whole bool      // known is all of that
	read  []waiting // the first that were read, from from on
	upTo  uint64    // read has all up to here; 0 where nothing was read
}

// foreseeLocked gives what a look for up to limit entries need not read. It must
// see nothing from end on.
func (q *queue) foreseeLocked(p messaging.Priority, limit int, end uint64) foresight {
	h := &q.ahead[p]
	f := foresight{end: h.end, from: max(h.end, q.cursor[p]), whole: true}
	n, _ := h.search(end)
	if n > limit {
		n, f.from, f.whole = limit, h.list[limit].sequence, false
	}
	f.known = slices.Clone(h.list[:n])
	return f
}

// note notes an entry that was read, and says whether more should be: some are read
// ahead of those that are wanted.
func (f *foresight) note(w waiting, wanted bool, limit int) (more bool) {
	if len(f.read) < maxAhead {
		f.read = append(f.read, w)
	} else {
		f.upTo = min(f.upTo, w.sequence)
	}
	if wanted || len(f.read) < min(limit+maxAhead/2, maxAhead) {
		return true
	}
	f.upTo = min(f.upTo, w.sequence+1)
	return false
}

// learnLocked takes over what a look has read. It comes before anything of it is
// handed out.
func (q *queue) learnLocked(p messaging.Priority, r *reading) {
	f, h := &r.foresight[p], &q.ahead[p]
	moved := h.end != f.end || (h.end == 0 && q.cursor[p] != r.cursor[p])
	came := slices.ContainsFunc(r.missed, func(m missed) bool { return m.priority == p })
	if f.upTo == 0 || !f.whole || moved || came || q.weighAheadLocked() {
		return
	}
	h.end = f.upTo
	if f.upTo == r.end && q.newest[p] < r.end {
		h.end = everything
	}
	for _, w := range f.read {
		// What somebody has comes back by itself.
		if w.sequence >= q.cursor[p] && !q.hiddenLocked(w.sequence) {
			h.add(w, false)
		}
	}
}
