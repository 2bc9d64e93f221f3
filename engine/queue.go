package engine

import (
	"container/list"
	"slices"
	"sync"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// queue is one user's queue: how many entries each priority has, and where they begin. The
// entries themselves are on disk.
//
// Invariants, under mu:
//
//  1. state counts every entry that is on disk or staged, and no other.
//  2. An entry that may be delivered is at or after cursor[p], or in requeued[p],
//     or in arrivals.
//  3. claimed holds every entry that is being delivered or leased.
//  4. arrivals holds every entry that a commit enqueues which is not published.
//     Readers do not see it, because no snapshot has it.
//  5. removed holds every entry that a commit has removed or replaced, until that
//     commit is published and no scan has an older snapshot. cleared is the same
//     for a clear. A scan skips the entries of its snapshot that a later commit
//     removed.
//  6. A head on disk is at or below every entry.
//  7. prefetched[p] is as documented at [prefetch].
type queue struct {
	user  messaging.UserID
	shard *shard // the registry's shard with this queue

	// Owned by the registry, under its shard's lock.
	pins       int
	prev, next *queue
	transient  bool // only broadcasts have used the queue since it was loaded

	// scanning is held by the one reader that scans for messages. It is taken before mu.
	// mu is not held while the disk is read, because the committer needs it.
	scanning sync.Mutex

	mu               sync.Mutex
	loaded           bool
	state            storage.QueueState
	cursor           [messaging.Priorities]uint64
	requeued         [messaging.Priorities]sequences
	claimed          map[uint64]*claim
	claimedSequences [messaging.Priorities]sequences
	// leased counts the leases that have not ended, and leasing the leases that are being
	// created.
	leased, leasing int
	// removed maps a sequence to the commit that removed or replaced its entry.
	removed map[uint64]uint64
	// cleared is the last clear, while entries that it marked may be on disk or in a
	// scan's snapshot.
	cleared clearing
	// published is the last published commit that changed the queue.
	published uint64
	// prefetched is what is known without reading the disk. prefetchCounted is the part of
	// it that the registry has counted.
	prefetched      [messaging.Priorities]prefetch
	prefetchCounted int
	// scan is the running scan, or nil.
	scan *scan
	// turns holds the credits of weighted priorities; see nextTurn.
	turns [messaging.Priorities]int

	// version increments when an entry arrives or is requeued. woken is the waiter that was
	// woken and has not scanned yet.
	version uint64
	waiters list.List
	woken   *waiter

	// dirty is owned by the committer: the current commit changes the queue.
	dirty bool
	// arrivals is in the order of commits.
	arrivals []arrival
}

// claim is a reader's hold on an entry, during a delivery or a lease. Whoever removes the
// entry from the queue also removes it from claimed. So the holder compares pointers to
// see whether its claim is still in force.
type claim struct {
	priority messaging.Priority
	entry    storage.Entry
	lease    *lease // nil while a response is being written
	removing bool   // it is about to be removed, or to become a dead letter
	expired  bool   // its expiry timer has fired; the end of the claim handles it
}

// queueEntry is an entry with its key.
type queueEntry struct {
	index    storage.Index
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
}

// arrival is an entry that a commit enqueues.
type arrival struct {
	queueEntry

	commit uint64
	moved  bool // from the other index, or another due time
}

func (q *queue) isLoaded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.loaded
}

// load reads the queue's state if it is not in memory.
func (q *queue) load(store *storage.Store) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.loaded {
		return nil
	}
	state, err := store.QueueState(q.user)
	if err != nil {
		return err
	}
	q.adoptLocked(state)
	return nil
}

// adoptLocked sets the state that was read from disk, unless another goroutine has set it.
func (q *queue) adoptLocked(state storage.QueueState) {
	if !q.loaded {
		q.state, q.cursor, q.loaded = state, state.Heads, true
	}
}

// arriveLocked adds an entry to the counts and the arrivals. It is available once its
// commit is published.
func (q *queue) arriveLocked(a arrival) {
	depth, p := q.state.On(a.index), a.priority
	if depth.Counts[p] == 0 {
		depth.Heads[p] = a.sequence
		if a.index == storage.Queued {
			q.cursor[p], q.prefetched[p] = a.sequence, prefetch{end: endOfQueue}
		}
	}
	depth.Counts[p]++
	depth.Heads[p] = min(depth.Heads[p], a.sequence)
	q.arrivals = append(q.arrivals, a)
}

// leaveLocked records that a commit removes or replaces an entry, removes the entry from
// everything in memory, and returns its lease, if any.
func (q *queue) leaveLocked(p messaging.Priority, seq, commit uint64) (ended *lease) {
	if q.removed == nil {
		q.removed = make(map[uint64]uint64)
	}
	q.removed[seq] = commit
	if held := q.claimed[seq]; held != nil {
		ended = held.lease
		delete(q.claimed, seq)
		q.claimedSequences[p].remove(seq)
	}
	q.requeued[p].remove(seq)
	q.prefetched[p].remove(seq)
	if at := q.arrivalLocked(seq); at >= 0 {
		q.arrivals = slices.Delete(q.arrivals, at, at+1)
	}
	return ended
}

// arrivalLocked returns the index of an entry in arrivals, or -1.
func (q *queue) arrivalLocked(seq uint64) int {
	return slices.IndexFunc(q.arrivals, func(a arrival) bool { return a.sequence == seq })
}

// claimLocked claims an entry and moves the cursor after it. After its last claim, the
// caller drops prefetched entries below the cursor, once for all claims.
func (q *queue) claimLocked(seq uint64, held *claim) {
	if q.claimed == nil {
		q.claimed = make(map[uint64]*claim)
	}
	p := held.priority
	q.claimed[seq] = held
	q.claimedSequences[p].add(seq)
	q.requeued[p].remove(seq)
	q.cursor[p] = max(q.cursor[p], seq+1)
}

// advanceLocked moves the cursor after an entry.
func (q *queue) advanceLocked(p messaging.Priority, seq uint64) {
	q.cursor[p] = max(q.cursor[p], seq+1)
	q.prefetched[p].dropBelow(q.cursor[p])
}

// requeueLocked ends the claim of an entry and makes it available again.
func (q *queue) requeueLocked(seq uint64) {
	held := q.claimed[seq]
	delete(q.claimed, seq)
	q.claimedSequences[held.priority].remove(seq)
	q.offerLocked(held.priority, seq, held.entry)
	q.bumpVersionLocked()
}

// offerLocked makes an entry available that is in the newest snapshot. A running scan may
// have passed its sequence already and may move the cursor after it. So the entry goes
// into requeued; the end of the scan removes it there if the cursor is still at or below
// it.
func (q *queue) offerLocked(p messaging.Priority, seq uint64, entry storage.Entry) {
	passed := q.scan != nil && seq <= q.scan.snapshot.Last
	if passed {
		q.scan.offered[p] = true
	}
	if passed || seq < q.cursor[p] {
		q.requeued[p].add(seq)
	}
	if seq >= q.cursor[p] {
		q.addPrefetchedLocked(p, seq, entry)
	}
	q.rewindLocked(p)
}

// maxRequeued bounds the entries before the cursor that are remembered individually.
const maxRequeued = 4096

// rewindLocked moves the cursor back to the first requeued entry if there are too many to
// remember. It does nothing during a scan, which would move the cursor forward again.
func (q *queue) rewindLocked(p messaging.Priority) {
	if len(q.requeued[p]) > maxRequeued && q.scan == nil {
		q.cursor[p] = q.requeued[p].orMin(q.cursor[p])
		q.requeued[p], q.prefetched[p] = nil, prefetch{}
	}
}

// hiddenLocked reports whether a scan with the snapshot of a commit must skip an entry,
// because it is claimed or was removed since.
func (q *queue) hiddenLocked(seq, commit uint64) bool {
	return q.claimed[seq] != nil || q.goneLocked(seq, commit)
}

// goneLocked reports whether a commit after the given one removed, replaced or cleared an
// entry.
func (q *queue) goneLocked(seq, commit uint64) bool {
	return q.removed[seq] > commit || (seq <= q.cleared.upTo && (q.cleared.finished == 0 || q.cleared.finished > commit))
}

// findHeadsLocked sets the heads that are written to disk: at or below every entry that is
// available, claimed or arriving.
func (q *queue) findHeadsLocked() {
	for p := range q.state.Heads {
		if q.state.Counts[p] == 0 {
			q.state.Heads[p] = 0
			continue
		}
		head := q.requeued[p].orMin(q.cursor[p])
		q.state.Heads[p] = q.claimedSequences[p].orMin(head)
	}
	for _, a := range q.arrivals {
		if a.index == storage.Queued {
			q.state.Heads[a.priority] = min(q.state.Heads[a.priority], a.sequence)
		}
	}
	for p := range q.state.Delayed.Heads {
		if q.state.Delayed.Counts[p] == 0 {
			q.state.Delayed.Heads[p] = 0
		}
	}
}

// availableLocked returns how many entries of a priority are not claimed. It includes
// arrivals that are not published yet.
func (q *queue) availableLocked(p messaging.Priority) uint64 {
	return q.state.Counts[p] - uint64(len(q.claimedSequences[p]))
}

// anyLocked reports whether any entry is available.
func (q *queue) anyLocked() bool {
	return q.availableLocked(messaging.High)+q.availableLocked(messaging.Normal)+q.availableLocked(messaging.Low) > 0
}

// publish makes the arrivals of a commit available, forgets state that was needed only
// until then, and wakes a waiter. Readers can get the commit's snapshot by now.
func (q *queue) publish(commit uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.published = commit
	n, arrived := 0, false
	for ; n < len(q.arrivals) && q.arrivals[n].commit <= commit; n++ {
		a := &q.arrivals[n]
		if a.index != storage.Queued {
			continue
		}
		arrived = true
		if q.claimed[a.sequence] == nil { // else a reader of the snapshot has claimed it already
			q.offerLocked(a.priority, a.sequence, a.entry)
		}
	}
	if q.arrivals = slices.Delete(q.arrivals, 0, n); len(q.arrivals) == 0 {
		q.arrivals = nil
	}
	if q.scan == nil {
		q.forgetPublishedLocked(commit)
	}
	if arrived {
		q.bumpVersionLocked()
	}
}

// forgetPublishedLocked forgets removals of commits up to one whose snapshot all readers
// have.
func (q *queue) forgetPublishedLocked(commit uint64) {
	for seq, removed := range q.removed {
		if removed <= commit {
			delete(q.removed, seq)
		}
	}
	if q.cleared.finished > 0 && q.cleared.finished <= commit {
		q.cleared = clearing{}
	}
}

// countsLocked returns the counts that clients see: without entries that are being removed
// and without arrivals that are not published.
func (q *queue) countsLocked() messaging.Counts {
	ready, delayed, leased := q.state.Counts, q.state.Delayed.Total(), uint64(0)
	for _, a := range q.arrivals {
		switch {
		case a.moved:
		case a.index == storage.Queued:
			ready[a.priority]--
		default:
			delayed--
		}
	}
	for _, held := range q.claimed {
		switch {
		case held.lease != nil:
			leased++
			ready[held.priority]--
		case held.removing:
			ready[held.priority]--
		}
	}
	return messaging.Counts{
		High: ready[messaging.High], Normal: ready[messaging.Normal], Low: ready[messaging.Low],
		Leased: leased, Delayed: delayed,
	}
}
