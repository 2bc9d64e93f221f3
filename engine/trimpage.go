package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

const (
	// trimRecords is how many records the trimmer reads at a time.
	trimRecords = 512
	// maxTrimQueues bounds how many queues the trimmer reads for a page of several records.
	maxTrimQueues = 1024
	// trimWork bounds the writes of one commit, because sends wait for it. A broadcast to
	// more receivers is a page of its own and may take several commits.
	trimWork = 256
	// trimWatch is how many records the journal watches from the page on, so that pages
	// without removals need no commit.
	trimWatch = 32 * trimRecords
	// trimBurst is how long the trimmer works without a pause during concurrent sends.
	// Then it pauses for twice as long as it has worked, at most longestTrimYield.
	trimBurst        = 500 * time.Microsecond
	longestTrimYield = 20 * time.Millisecond
)

// trimRun is one run of the trimmer under one policy.
type trimRun struct {
	*trimmer
	policy
	trimmed
	watched span // what the journal watches
	// began is when the work since the last pause began, and accepted is how many messages
	// had been sent by then.
	began    time.Time
	accepted uint64
}

// policy decides which records are removed. It is called on the run's goroutine.
type policy interface {
	// takesQueued reports whether a message is removed that is in a queue and not delayed.
	takesQueued() bool
	// held returns the sequences in a range that stay although they have no entry.
	held(s span) (map[uint64]bool, error)
	// firstSequence returns the new first sequence when all records of a page are removed
	// except those that stay. first is the first that stays, or the page's end.
	firstSequence(page span, first uint64) uint64
	// done records which records of a page stay.
	done(page span, stay []keptRecord)
}

// page trims the records of a page that begins at s.from and ends at or before s.to, in
// one commit. It returns where the next page begins.
func (r *trimRun) page(s span) (next uint64, err error) {
	p, err := r.prepare(s)
	defer r.unpinDrops(p.items)
	if err != nil {
		return 0, err
	}
	defer r.pace()
	return r.commit(p)
}

// prepare reads a page and the queue entries of its messages, and pins the queues of the
// entries to remove.
func (r *trimRun) prepare(s span) (*trimPage, error) {
	p, err := r.readPage(s)
	if err != nil || len(p.items) == 0 { // only tombstones
		return p, err
	}
	if err := r.watch(p.span); err != nil {
		return p, err
	}
	return p, r.readEntries(p)
}

// trimPage is records that are read together.
type trimPage struct {
	span
	items []trimItem   // the records with a message
	kept  []keptRecord // in ascending order
}

// readPage reads records without their bodies. A page ends before a broadcast to many
// receivers, which is a page of its own.
func (r *trimRun) readPage(s span) (*trimPage, error) {
	s.to = min(s.to, s.from+trimRecords)
	p := &trimPage{span: span{s.from, s.from}}
	queues := 0
	err := r.engine.store.Records(s.from, s.to, func(seq uint64, raw []byte) (bool, error) {
		if seq != p.to {
			return false, fmt.Errorf("%w: record %d is missing", storage.ErrCorrupt, p.to)
		}
		record, err := wal.DecodeRecord(raw)
		if err != nil {
			return false, fmt.Errorf("%w: record %d: %w", storage.ErrCorrupt, seq, err)
		}
		queues += int(record.Recipients)
		if len(p.items) > 0 && (record.Recipients > trimWork || queues > maxTrimQueues) {
			return false, nil
		}
		p.to++
		if !record.Trimmed && !record.Lost {
			record.Message.Body = nil // the iterator owns it
			p.items = append(p.items, trimItem{sequence: seq, size: len(raw), record: record})
		}
		return record.Recipients <= trimWork, nil
	})
	if err == nil && p.to == s.from {
		err = fmt.Errorf("%w: record %d is missing", storage.ErrCorrupt, p.to)
	}
	return p, err
}

// watch makes the journal watch a page before its queue entries are read.
func (r *trimRun) watch(s span) error {
	if r.watched.from <= s.from && s.to <= r.watched.to {
		return nil
	}
	r.watched = span{s.from, s.from + trimWatch}
	return r.trimmer.commit(&trimChange{trimmer: r.trimmer, next: r.watched})
}

// readEntries reads the queue entries of a page's messages, and decides which records stay.
func (r *trimRun) readEntries(p *trimPage) error {
	for i := range p.items {
		item := &p.items[i]
		r.pace()
		kept, err := r.readItemEntries(item)
		if err != nil {
			return err
		}
		if kept.sequence != 0 {
			item.stays = true
			p.kept = append(p.kept, kept)
		}
	}
	// The order matters: a message becomes a dead letter before it leaves its queue or in
	// the same commit, so one of the two reads finds it.
	held, err := r.held(p.span)
	if err != nil {
		return err
	}
	for i := range p.items {
		if item := &p.items[i]; !item.stays && held[item.sequence] {
			item.stays = true
			p.kept = append(p.kept, keptOf(item))
		}
	}
	sortKept(p.kept)
	return nil
}

// readItemEntries reads the entries of one message. If the record stays, kept has a
// sequence. The entries of a broadcast to many receivers are removed in several commits
// before its record.
func (r *trimRun) readItemEntries(item *trimItem) (kept keptRecord, err error) {
	if !item.record.IsBroadcast() {
		return kept, r.readQueueEntry(item, item.record.Message.Receiver.User, &kept)
	}
	for n := uint32(0); n < item.record.Recipients; n += messaging.ReceiversPerChunk {
		receivers, err := r.engine.log.Receivers(&item.record, n/messaging.ReceiversPerChunk)
		if err != nil {
			return kept, err
		}
		for _, receiver := range receivers {
			r.pace()
			if err := r.readQueueEntry(item, receiver.User, &kept); err != nil {
				return kept, err
			}
			if kept.sequence != 0 && !r.takesQueued() {
				return kept, nil
			}
			if item.record.Recipients > trimWork && len(item.drops) >= trimWork {
				if err := r.commitDrops(item, &kept); err != nil {
					return kept, err
				}
			}
		}
	}
	return kept, nil
}

// commitDrops removes the entries found so far of a broadcast to many receivers. The
// record stays until the last of them is removed; after a crash in between, less is left
// to do.
func (r *trimRun) commitDrops(item *trimItem, kept *keptRecord) error {
	c := &trimChange{
		trimmer: r.trimmer, next: r.watched, again: true,
		items: []trimItem{{sequence: item.sequence, drops: item.drops, stays: true}},
	}
	err := r.trimmer.commit(c)
	r.unpinDrops(c.items)
	item.drops = nil
	if len(c.left) > 0 && kept.sequence == 0 {
		*kept = keptOf(item) // some of its entries may be left
	}
	return err
}

// readQueueEntry reads a message's entry in one queue. The entry is added to item.drops, or
// keeps the record.
func (r *trimRun) readQueueEntry(item *trimItem, user messaging.UserID, kept *keptRecord) error {
	p := item.record.Message.Priority
	index, entry, ok, err := r.engine.diskEntry(user, p, item.sequence)
	if err != nil || !ok {
		return err
	}
	if index == storage.Delayed || !r.takesQueued() {
		if kept.sequence == 0 {
			*kept = keptOf(item)
			kept.user = user
		}
		return nil
	}
	q, err := r.engine.queues.pinTransient(user)
	if err != nil {
		return err
	}
	item.drops = append(item.drops, drop{queue: q, priority: p, entry: entry})
	return nil
}

// diskEntry returns a message's entry in a user's queue on disk. The counts and heads of a
// queue exclude most old messages with one read instead of two.
func (e *Engine) diskEntry(user messaging.UserID, p messaging.Priority, seq uint64) (index storage.Index, entry storage.Entry, ok bool, err error) {
	state, err := e.store.QueueState(user)
	if err != nil {
		return 0, entry, false, err
	}
	for _, index := range [...]storage.Index{storage.Queued, storage.Delayed} {
		if at := state.On(index); at.Counts[p] == 0 || seq < at.Heads[p] {
			continue
		}
		if entry, ok, err = e.store.Entry(index, user, p, seq); ok || err != nil {
			return index, entry, ok, err
		}
	}
	return 0, entry, false, nil
}

func (r *trimRun) unpinDrops(items []trimItem) {
	for i := range items {
		for _, d := range items[i].drops {
			r.engine.queues.unpin(d.queue)
		}
		items[i].drops = nil
	}
}

// commit commits a page, and returns where the next one begins.
func (r *trimRun) commit(p *trimPage) (next uint64, err error) {
	first := p.to
	if len(p.kept) > 0 {
		first = p.kept[0].sequence
	}
	c := &trimChange{trimmer: r.trimmer, firstSequence: r.firstSequence(p.span, first), next: span{p.to, p.to + trimWatch}}
	for i := range p.items {
		if item := &p.items[i]; !item.stays || len(item.drops) > 0 {
			c.items = append(c.items, *item)
		}
	}
	if len(c.items) > 0 {
		if err := r.trimmer.commit(c); err != nil {
			return 0, err
		}
		r.watched = c.next
	}
	if c.cut != 0 {
		p.to = c.cut
	}
	r.add(c.trimmed)
	r.done(p.span, p.staying(c.left))
	return p.to, nil
}

// staying returns the records of a page that stay, in order: the kept ones, and those that
// must be checked again.
func (p *trimPage) staying(left []trimItem) []keptRecord {
	var stay []keptRecord
	for i := range left {
		stay = append(stay, keptOf(&left[i]))
	}
	for _, k := range p.kept {
		again := slices.ContainsFunc(left, func(l trimItem) bool { return l.sequence == k.sequence })
		if k.sequence < p.to && !again {
			stay = append(stay, k)
		}
	}
	sortKept(stay)
	return stay
}

func sortKept(kept []keptRecord) {
	slices.SortFunc(kept, func(a, b keptRecord) int { return cmp.Compare(a.sequence, b.sequence) })
}

// pace pauses for concurrent sends if the run has worked for long enough.
func (r *trimRun) pace() {
	worked, accepted := time.Since(r.began), r.engine.counters.accepted.Load()
	if worked < trimBurst {
		return
	}
	if accepted != r.accepted {
		time.Sleep(min(2*worked, longestTrimYield))
	}
	r.began, r.accepted = time.Now(), accepted
}
