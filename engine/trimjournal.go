package engine

import (
	"slices"
	"sync"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/wal"
)

// maxJournal bounds each of the journal's sets. A full set counts as one with every
// member.
const maxJournal = 8192

// entryJournal records the changes of queue entries in a range of the log between the
// trimmer's reads and its commit, so that the commit reads nothing. The committer owns it.
//
// Invariant: an entry in the range that is not in the journal is on disk as it was when
// the range was set. The trimmer reads after the change that set the range is durable.
type entryJournal struct {
	span // empty while no run watches
	// enqueued has the sequences whose entry was enqueued or moved to another index.
	enqueued map[uint64]struct{}
	// removed has the entries that were removed or moved.
	removed map[entryKey]struct{}
	// cleared has the users whose queue was cleared.
	cleared map[messaging.UserID]struct{}
	// allEnqueued and allRemoved are set when a set is full.
	allEnqueued, allRemoved bool
}

// span is the half-open range [from, to) of sequences.
type span struct{ from, to uint64 }

func (s span) has(seq uint64) bool { return seq >= s.from && seq < s.to }

// entryKey identifies an entry: a queue has at most one for each message.
type entryKey struct {
	sequence uint64
	user     messaging.UserID
}

// watch sets the range. With again the trimmer continues with the same records, so the
// sequences enqueued since its first read are kept.
func (j *entryJournal) watch(s span, again bool) {
	enqueued, all := j.enqueued, j.allEnqueued
	*j = entryJournal{span: s}
	if again {
		j.enqueued, j.allEnqueued = enqueued, all
	}
}

// noteEnqueued records that an entry is enqueued.
func (j *entryJournal) noteEnqueued(seq uint64) {
	if j.has(seq) {
		noteIn(&j.enqueued, seq, &j.allEnqueued)
	}
}

// noteRemoved records that an entry is removed, or moved to the other index.
func (j *entryJournal) noteRemoved(seq uint64, user messaging.UserID) {
	if j.has(seq) {
		noteIn(&j.removed, entryKey{seq, user}, &j.allRemoved)
	}
}

// noteCleared records that a queue is cleared.
func (j *entryJournal) noteCleared(user messaging.UserID) {
	if j.from < j.to {
		noteIn(&j.cleared, user, &j.allRemoved)
	}
}

func noteIn[K comparable](set *map[K]struct{}, key K, all *bool) {
	if len(*set) >= maxJournal {
		*all = true
		return
	}
	if *set == nil {
		*set = make(map[K]struct{})
	}
	(*set)[key] = struct{}{}
}

// changed reports whether an entry may differ from what the trimmer has read.
func (j *entryJournal) changed(seq uint64, user messaging.UserID) bool {
	_, left := j.removed[entryKey{seq, user}]
	_, cleared := j.cleared[user]
	return left || cleared || j.allRemoved
}

// isEnqueued reports whether a sequence may have an entry that the trimmer has not read.
func (j *entryJournal) isEnqueued(seq uint64) bool {
	_, enqueued := j.enqueued[seq]
	return enqueued || j.allEnqueued
}

// reentries holds the messages that are about to be requeued, such as those of a redrive.
// The commit order decides between a requeue and a trim:
//
//   - If the trim is staged first, it marks the message as gone, and the message
//     is not requeued.
//   - If the requeue is staged first, it is in the journal, and the trim keeps the
//     record.
type reentries struct {
	mu     sync.Mutex
	coming map[uint64]*reentry
	// staged is the trim that is staged and not published. Readers may still see the
	// records that it removes.
	staged *takenRecords
}

type reentry struct {
	callers int
	gone    bool // a trim has removed the record
}

// takenRecords is what a trim removes: every sequence below firstSequence, and single
// sequences above it, in ascending order.
type takenRecords struct {
	firstSequence uint64
	sequences     []uint64
}

func (t *takenRecords) has(seq uint64) bool {
	if seq < t.firstSequence {
		return true
	}
	_, found := slices.BinarySearch(t.sequences, seq)
	return found
}

// beginReentry announces that a message is to be requeued. It is called before the record
// is read. endReentry follows when the requeueing change is durable or was abandoned.
func (t *trimmer) beginReentry(seq uint64) {
	r := &t.reentries
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.coming[seq]
	if x == nil {
		if r.coming == nil {
			r.coming = make(map[uint64]*reentry)
		}
		x = &reentry{gone: r.staged != nil && r.staged.has(seq)}
		r.coming[seq] = x
	}
	x.callers++
}

// endReentry ends what beginReentry began.
func (t *trimmer) endReentry(seq uint64) {
	r := &t.reentries
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.coming[seq]
	if x.callers--; x.callers == 0 {
		delete(r.coming, seq)
	}
}

// mayReenterLocked reports, within a change's Stage, whether the record of a message is
// still there. beginReentry must have been called for it, and its record read after that.
// If it returns true, the entry that the change then adds (enqueueLocked) keeps the
// record. It reads nothing from the disk.
func (t *trimmer) mayReenterLocked(tx *wal.Tx, seq uint64) bool {
	r := &t.reentries
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.coming[seq]
	return seq >= tx.FirstSequence() && x != nil && !x.gone
}

// take marks the messages that a trim removes, while the trim is staged.
func (r *reentries) take(taken *takenRecords) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.staged = taken
	for seq, x := range r.coming {
		x.gone = x.gone || taken.has(seq)
	}
}

// published forgets the staged trim: readers no longer see its records.
func (r *reentries) published() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.staged = nil
}
