package engine

import (
	"container/list"
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
//  2. An entry that may be handed out is at or behind cursor[p], or in
//     returned[p].
//  3. out has every entry that someone has: a reader whose answer is being
//     written, or the holder of a lease.
//  4. recent has every entry that a commit which is not yet durable has moved,
//     removed or brought back, and keeps a removed one while a reader may hold a
//     page that is older than the removal. Readers pass over all of them. What
//     is sent needs no place in it: its sequence is above the durable one.
//  5. What is written to disk as a head is below every entry.
//  6. ahead[p] is as [ahead] says.
type queue struct {
	user messaging.UserID
	home *shard // the registry's that it is in

	// The registry's, under its shard's lock.
	pins       int
	prev, next *queue
	passing    bool // only broadcasts have wanted it since it was read

	// reading is held by the one reader that looks for messages. It is taken
	// before mu, and mu is not held while the disk is read: the committer needs it.
	reading sync.Mutex

	mu       sync.Mutex
	loaded   bool
	state    storage.User
	cursor   [messaging.Priorities]uint64
	returned [messaging.Priorities]sequences
	out      map[uint64]*outstanding
	outBy    [messaging.Priorities]sequences
	recent   map[uint64]recent
	// entering has the entries of recent that are on their way to the queue.
	entering [messaging.Priorities]sequences
	// cleared is the last clear while what is on disk may be older than it.
	cleared clearing
	// epoch counts how often the queue was cleared: what a reader read before
	// is void.
	epoch uint64
	// ahead is what is known without reading the disk, aheadCounted what of it the
	// registry has counted, and newest the last that arrived.
	ahead        [messaging.Priorities]ahead
	aheadCounted int
	newest       [messaging.Priorities]uint64
	// reader is there while someone looks.
	reader *reading
	// turns is whose turn it is, where priorities are served by weight.
	turns [messaging.Priorities]int

	// news counts what came in; line has the waiters, and awake is the one that
	// was woken and has not looked yet.
	news  uint64
	line  list.List
	awake *waiter

	// The committer's: what the commit that is being made brings.
	dirty    bool
	arrivals []arrival
}

// outstanding is an entry that someone has. Whoever removes it from the queue
// removes it from out too, so its holder sees by identity whether it still is
// the holder.
type outstanding struct {
	priority messaging.Priority
	entry    storage.Entry
	lease    *lease // nil while an answer is being written
	doomed   bool   // it is about to be removed, or to become a dead letter
}

// recent is where an entry stands by a commit that is not yet durable.
type recent struct {
	commit   uint64
	priority messaging.Priority
	shelf    storage.Shelf // 0: it is gone
	entry    storage.Entry
	durable  bool // the commit is; a reader's page may be older
}

// clearing is a clear that is not yet durable, or that a reader's page may be
// older than: what stands on disk up to its sequence is gone, unless recent says
// otherwise.
type clearing struct {
	commit, upTo uint64
	durable      bool
}

// arrival is an entry that the commit that is being made brings.
type arrival struct {
	shelf    storage.Shelf
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
}

func (q *queue) isLoaded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.loaded
}

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
	q.becomeLocked(state)
	return nil
}

// becomeLocked takes over what was read from disk, unless somebody was faster.
func (q *queue) becomeLocked(state storage.User) {
	if !q.loaded {
		q.state, q.cursor, q.loaded = state, state.Heads, true
	}
}

// arriveLocked counts an entry in. fresh says that its sequence is the commit's
// own, so that no reader can see it yet.
func (q *queue) arriveLocked(a arrival, commit uint64, fresh bool) {
	tally, p := q.state.On(a.shelf), a.priority
	if tally.Counts[p] == 0 {
		tally.Heads[p] = a.sequence
		if a.shelf == storage.Queued {
			q.cursor[p], q.ahead[p] = a.sequence, ahead{end: everything}
		}
	}
	tally.Counts[p]++
	tally.Heads[p] = min(tally.Heads[p], a.sequence)
	q.arrivals = append(q.arrivals, a)
	if fresh && a.shelf == storage.Queued {
		q.newest[p] = a.sequence
		q.addAheadLocked(p, a.sequence, a.entry)
	}
	if fresh {
		return
	}
	q.noteLocked(a.sequence, recent{commit: commit, priority: p, shelf: a.shelf, entry: a.entry})
	if a.shelf == storage.Queued {
		q.entering[p].add(a.sequence)
	}
}

func (q *queue) noteLocked(seq uint64, r recent) {
	if q.recent == nil {
		q.recent = make(map[uint64]recent)
	}
	q.recent[seq] = r
}

// handOutLocked gives an entry to someone. The cursor moves behind it; who has given
// all lets what is known ahead pass to it, once for all of them.
func (q *queue) handOutLocked(seq uint64, o *outstanding) {
	if q.out == nil {
		q.out = make(map[uint64]*outstanding)
	}
	p := o.priority
	q.out[seq] = o
	q.outBy[p].add(seq)
	q.returned[p].remove(seq)
	q.cursor[p] = max(q.cursor[p], seq+1)
}

// passLocked moves the cursor behind an entry.
func (q *queue) passLocked(p messaging.Priority, seq uint64) {
	q.cursor[p] = max(q.cursor[p], seq+1)
	q.ahead[p].passTo(q.cursor[p])
}

// giveBackLocked makes an entry available again that someone had.
func (q *queue) giveBackLocked(seq uint64) {
	o := q.out[seq]
	delete(q.out, seq)
	q.outBy[o.priority].remove(seq)
	q.offerLocked(o.priority, seq, o.entry)
	q.newsLocked()
}

// offerLocked makes an entry available that is on disk and was not. A look that is
// under way may have passed its place.
func (q *queue) offerLocked(p messaging.Priority, seq uint64, entry storage.Entry) {
	if seq < q.cursor[p] {
		q.returned[p].add(seq)
		q.foldLocked(p)
		return
	}
	q.addAheadLocked(p, seq, entry)
	if q.reader != nil {
		q.reader.missed = append(q.reader.missed, missed{p, seq})
	}
}

// maxReturned bounds the entries before the cursor that are remembered one by
// one.
const maxReturned = 4096

// foldLocked moves the cursor back to the first of what came back, when that is
// too much to remember. A reader that is looking would move it on again.
func (q *queue) foldLocked(p messaging.Priority) {
	if len(q.returned[p]) > maxReturned && q.reader == nil {
		q.cursor[p] = q.returned[p].orMin(q.cursor[p])
		q.returned[p], q.ahead[p] = nil, ahead{}
	}
}

// forgetLocked takes an entry that is removed out of everything that is in
// memory. It gives the lease that it was under.
func (q *queue) forgetLocked(p messaging.Priority, seq uint64) (ended *lease) {
	if o := q.out[seq]; o != nil {
		ended = o.lease
		delete(q.out, seq)
		q.outBy[p].remove(seq)
	}
	q.returned[p].remove(seq)
	q.entering[p].remove(seq)
	q.ahead[p].remove(seq)
	return ended
}

// hiddenLocked says whether a reader must pass over an entry that it found.
func (q *queue) hiddenLocked(seq uint64) bool {
	if q.out[seq] != nil {
		return true
	}
	_, hidden := q.recent[seq]
	return hidden || q.voidLocked(seq)
}

// voidLocked says whether an entry that was found on disk was cleared. What came
// back since is in recent, and what was sent since is above.
func (q *queue) voidLocked(seq uint64) bool {
	_, moved := q.recent[seq]
	return seq <= q.cleared.upTo && !moved
}

// settleHeadsLocked finds the heads that are written: below everything that may
// be handed out, that someone has, or that is on its way in.
func (q *queue) settleHeadsLocked() {
	for p := range q.state.Heads {
		if q.state.Counts[p] == 0 {
			q.state.Heads[p] = 0
			continue
		}
		head := q.returned[p].orMin(q.cursor[p])
		head = q.outBy[p].orMin(head)
		q.state.Heads[p] = q.entering[p].orMin(head)
	}
	for p := range q.state.Delayed.Heads {
		if q.state.Delayed.Counts[p] == 0 {
			q.state.Delayed.Heads[p] = 0
		}
	}
}

// availableLocked is how many entries of a priority may be handed out, those
// that are not durable yet among them.
func (q *queue) availableLocked(p messaging.Priority) uint64 {
	return q.state.Counts[p] - uint64(len(q.outBy[p]))
}

// anyLocked says whether anything may be handed out.
func (q *queue) anyLocked() bool {
	return q.availableLocked(messaging.High)+q.availableLocked(messaging.Normal)+q.availableLocked(messaging.Low) > 0
}

// published forgets what mattered only until a commit was durable, and tells
// whoever waits what came in.
func (q *queue) published(commit uint64, arrived bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cleared.commit <= commit {
		q.cleared.durable = true
	}
	for seq, r := range q.recent {
		if r.commit > commit {
			continue
		}
		if r.shelf == storage.Queued {
			q.entering[r.priority].remove(seq)
			q.offerLocked(r.priority, seq, r.entry)
			delete(q.recent, seq)
			continue
		}
		r.durable = true
		q.recent[seq] = r
	}
	if q.reader == nil {
		q.sweepLocked()
	}
	if arrived {
		q.newsLocked()
	}
}

// sweepLocked forgets what a reader's page could have been older than.
func (q *queue) sweepLocked() {
	for seq, r := range q.recent {
		if r.durable {
			delete(q.recent, seq)
		}
	}
	if q.cleared.durable {
		q.cleared = clearing{}
	}
}

// countsLocked is how the queue looks from outside: what is about to be removed
// does not count.
func (q *queue) countsLocked() messaging.Counts {
	ready, leased := q.state.Counts, uint64(0)
	for _, o := range q.out {
		switch {
		case o.lease != nil:
			leased++
			ready[o.priority]--
		case o.doomed:
			ready[o.priority]--
		}
	}
	return messaging.Counts{
		High: ready[messaging.High], Normal: ready[messaging.Normal], Low: ready[messaging.Low],
		Leased: leased, Delayed: q.state.Delayed.Total(),
	}
}
