package engine

import (
	"context"
	"math"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// maxKept bounds the records below the cursor that are kept and remembered individually.
const maxKept = 65_536

// agePolicy removes records older than the retention time, with their queue entries. It
// keeps delayed messages.
//
// Invariant: below cursor there are only tombstones and the records in kept.
type agePolicy struct {
	trimmer *trimmer
	cursor  uint64
	kept    []keptRecord // in ascending order
	full    bool         // kept is full, so the cursor does not move
}

// keptRecord is a record that stays while its neighbours are trimmed.
type keptRecord struct {
	sequence uint64
	created  int64 // Unix ms
	priority messaging.Priority
	// user is the one in whose queue the message is delayed. It is "" if the next run must
	// check the record again.
	user messaging.UserID
}

func keptOf(item *trimItem) keptRecord {
	m := &item.record.Message
	return keptRecord{sequence: item.sequence, created: m.CreatedAt.UnixMilli(), priority: m.Priority}
}

// begin prepares a run. The other policy may have raised the first sequence.
func (a *agePolicy) begin(first uint64) {
	a.full = false
	a.cursor = max(a.cursor, first)
	a.kept = slices.Delete(a.kept, 0, a.at(first))
}

// at returns the index in kept of the first record at or above a sequence.
func (a *agePolicy) at(seq uint64) int {
	at, _ := slices.BinarySearchFunc(a.kept, seq, func(k keptRecord, seq uint64) int {
		if k.sequence < seq {
			return -1
		}
		return 1
	})
	return at
}

// limit returns the first sequence that retention by age must keep.
func (a *agePolicy) limit() uint64 {
	end := a.trimmer.trimLimit()
	if held := a.trimmer.engine.config.Held; held != nil {
		end = held(end)
	}
	return end
}

// run checks the kept records that are no longer delayed, and continues where the last run
// ended.
func (a *agePolicy) run(ctx context.Context, r *trimRun, expired uint64) error {
	for from := uint64(0); ctx.Err() == nil; {
		k, ok, err := a.released(from)
		if err != nil {
			return err
		}
		if !ok || k.sequence >= a.limit() {
			break
		}
		// Its neighbours are tombstones and other kept records.
		if from, err = a.page(r, span{k.sequence, min(k.sequence+trimRecords, a.cursor)}); err != nil {
			return err
		}
	}
	for from := a.cursor; from < expired && ctx.Err() == nil; {
		next, err := a.page(r, span{from, expired})
		if err != nil {
			return err
		}
		if next == from {
			break // the drain or a replay is there
		}
		from = next
	}
	return nil
}

// released returns the first kept record at or above a sequence that is no longer delayed.
func (a *agePolicy) released(from uint64) (k keptRecord, ok bool, err error) {
	e := a.trimmer.engine
	for _, k := range a.kept[a.at(from):] {
		if k.user == "" {
			return k, true, nil
		}
		if _, later, err := e.store.Entry(storage.Delayed, k.user, k.priority, k.sequence); err != nil || !later {
			return k, true, err
		}
	}
	return k, false, nil
}

// page trims a page, up to the current limit.
func (a *agePolicy) page(r *trimRun, s span) (next uint64, err error) {
	s.to = min(s.to, a.limit())
	if s.to <= s.from {
		return s.from, nil
	}
	return r.page(s)
}

// takesQueued implements [policy].
func (a *agePolicy) takesQueued() bool { return true }

// held implements [policy]. It returns none, because a dead letter has its own copy of the
// body.
func (a *agePolicy) held(span) (map[uint64]bool, error) { return nil, nil } //nolint:nilnil // nil is the empty set

// firstSequence implements [policy].
func (a *agePolicy) firstSequence(page span, first uint64) uint64 {
	known := a.cursor // below it are only tombstones and kept records
	if !a.full {
		known = max(known, page.to)
	}
	if first == page.to {
		first = known
	}
	if i := slices.IndexFunc(a.kept, func(k keptRecord) bool { return !page.has(k.sequence) }); i >= 0 {
		first = min(first, a.kept[i].sequence)
	}
	return min(first, known)
}

// done implements [policy].
func (a *agePolicy) done(page span, stay []keptRecord) {
	from, to := a.at(page.from), a.at(page.to)
	room := max(0, maxKept-len(a.kept)+to-from)
	reached := page.to
	if len(stay) > room {
		reached, stay = stay[room].sequence, stay[:room]
	}
	a.kept = slices.Replace(a.kept, from, to, stay...)
	if !a.full {
		a.cursor = max(a.cursor, reached)
		a.full = reached < page.to
	}
}

// front returns where the first sequence may be.
func (a *agePolicy) front() uint64 {
	if len(a.kept) > 0 {
		return a.kept[0].sequence
	}
	return a.cursor
}

// frontTime returns the time up to which the time index needs no entries.
func (a *agePolicy) frontTime() int64 {
	if len(a.kept) > 0 {
		return a.kept[0].created
	}
	return math.MaxInt64
}
