package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// The next entries of a queue are known without a read of the disk if they arrived while
// the queue was in memory, or if an earlier scan read them.
const (
	// maxPrefetch bounds the prefetched entries of one priority of a queue.
	maxPrefetch = 64
	// maxPrefetchTotal bounds them for all queues together: about 32 MiB.
	maxPrefetchTotal = 1 << 20
)

// prefetch is the known entries of one priority, from the queue's cursor up to, but not
// including, end. It has every published entry in that range, except claimed ones and
// those that a pending commit removes. Entries of a commit are added when it is published.
// An end of 0 means that nothing is known.
type prefetch struct {
	list []readyEntry
	end  uint64
}

// endOfQueue is the end of a prefetch that has all entries from the cursor on. Arriving
// entries are added to it.
const endOfQueue = math.MaxUint64

// readyEntry is an entry that can be delivered.
type readyEntry struct {
	sequence uint64
	entry    storage.Entry
}

// search returns the index of a sequence in the list, or where it would be inserted.
func (h *prefetch) search(seq uint64) (at int, found bool) {
	return slices.BinarySearchFunc(h.list, seq, func(w readyEntry, seq uint64) int { return cmp.Compare(w.sequence, seq) })
}

// add adds an entry. If the list is full, it cuts the list at the entry and sets end to
// it.
func (h *prefetch) add(w readyEntry, full bool) {
	if w.sequence >= h.end {
		return
	}
	at, found := h.search(w.sequence)
	switch {
	case found:
		h.list[at] = w
	case full || len(h.list) >= maxPrefetch:
		h.list, h.end = h.list[:at], w.sequence
	default:
		h.list = slices.Insert(h.list, at, w)
	}
}

// remove removes an entry that has left the queue.
func (h *prefetch) remove(seq uint64) {
	if at, found := h.search(seq); found {
		h.list = slices.Delete(h.list, at, at+1)
	}
}

// dropBelow removes the entries below the cursor.
func (h *prefetch) dropBelow(cursor uint64) {
	if at, _ := h.search(cursor); at < len(h.list) {
		h.list = slices.Delete(h.list, 0, at)
		return
	}
	h.list = nil
}

// countPrefetchedLocked updates the registry's count of this queue's prefetched entries.
// It returns whether the total of all queues has reached its bound.
func (q *queue) countPrefetchedLocked() (full bool) {
	known := 0
	for p := range q.prefetched {
		known += cap(q.prefetched[p].list)
	}
	all := q.shard.prefetched.Add(int64(known - q.prefetchCounted))
	q.prefetchCounted = known
	return all >= maxPrefetchTotal
}

// addPrefetchedLocked adds an available entry at or after the cursor.
func (q *queue) addPrefetchedLocked(p messaging.Priority, seq uint64, entry storage.Entry) {
	if h := &q.prefetched[p]; seq < h.end {
		h.add(readyEntry{seq, entry}, q.countPrefetchedLocked())
	}
}

// prefetchScan is what a scan knows about one priority without reading the disk, and what
// it reads for the next scan.
type prefetchScan struct {
	known []readyEntry // considered before the disk is read
	from  uint64       // where the scan reads from the disk
	end   uint64       // of the queue's prefetch
	whole bool         // known is the whole prefetch
	read  []readyEntry // the first entries that were read, starting at from
	upTo  uint64       // read has all entries below it; 0 if nothing was read
}

// prefetchedLocked returns the known entries for a scan of up to limit entries.
func (q *queue) prefetchedLocked(p messaging.Priority, limit int) prefetchScan {
	h := &q.prefetched[p]
	f := prefetchScan{end: h.end, from: max(h.end, q.cursor[p]), whole: true}
	n := len(h.list)
	if n > limit {
		n, f.from, f.whole = limit, h.list[limit].sequence, false
	}
	f.known = slices.Clone(h.list[:n])
	return f
}

// note records an entry that was read, and returns whether to read more. A scan reads some
// entries ahead of those that it needs.
func (f *prefetchScan) note(w readyEntry, wanted bool, limit int) (more bool) {
	if len(f.read) < maxPrefetch {
		f.read = append(f.read, w)
	} else {
		f.upTo = min(f.upTo, w.sequence)
	}
	if wanted || len(f.read) < min(limit+maxPrefetch/2, maxPrefetch) {
		return true
	}
	f.upTo = min(f.upTo, w.sequence+1)
	return false
}

// learnLocked adopts what a scan has read, unless the queue has changed since the scan's
// snapshot: then arrivals would be missing. It is called before any of the scan's entries
// is claimed.
func (q *queue) learnLocked(p messaging.Priority, r *scan) {
	f, h := &r.prefetch[p], &q.prefetched[p]
	moved := h.end != f.end || (h.end == 0 && q.cursor[p] != r.cursor[p])
	if f.upTo == 0 || !f.whole || moved || r.offered[p] || q.published > r.snapshot.Commit || q.countPrefetchedLocked() {
		return
	}
	h.end = f.upTo
	for _, w := range f.read {
		// A claimed entry is added when it is requeued.
		if w.sequence >= q.cursor[p] && !q.hiddenLocked(w.sequence, r.snapshot.Commit) {
			h.add(w, false)
		}
	}
}
