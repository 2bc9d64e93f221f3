package engine

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// maxDeliveryBytes bounds the bytes of one delivery if the reader sets no bound. A
// delivery has at least one message.
const maxDeliveryBytes = 8 << 20

// maxSkipped bounds how many undeliverable entries one scan skips.
const maxSkipped = 4096

// maxReadAhead bounds how many records a scan prefetches at once.
const maxReadAhead = 8

// readAhead returns how many records a scan may prefetch with bytesLeft bytes left in its
// batch: as many as fit at their maximum size, but at least one.
func readAhead(bytesLeft int) int { return max(1, min(maxReadAhead, bytesLeft/messaging.MaxBody)) }

// scan is a running scan of a queue.
type scan struct {
	version  uint64
	maxBytes int // for messages, in bytes; 0 means the default
	// snapshot is what the scan reads: one for all priorities, else a message could
	// overtake an earlier one of a higher priority. endScan releases it.
	snapshot *wal.Snapshot
	cursor   [messaging.Priorities]uint64
	requeued [messaging.Priorities]sequences
	nonEmpty [messaging.Priorities]bool
	// prefetch is what the scan knows without reading, and what it reads for the next
	// scan.
	prefetch [messaging.Priorities]prefetchScan
	turns    [messaging.Priorities]int
	// offered reports whether an entry was offered during the scan.
	offered [messaging.Priorities]bool
}

// candidate is an entry that a scan found.
type candidate struct {
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
}

// batch is the result of a scan: messages to deliver with their entries, expired entries
// or entries without a message, and exhausted entries.
type batch struct {
	candidates []candidate
	messages   []messaging.Message
	turns      [messaging.Priorities]int
	expired    []candidate
	exhausted  []candidate
	cut        bool // there may be more entries after the skipped ones
	maxBytes   int  // for messages, in bytes
}

// claimedMessage is a message with its claim.
type claimedMessage struct {
	message messaging.Message
	claim   *claim
}

// scan finds the next messages of a queue. It reads a snapshot without the queue's lock,
// and then keeps what is still available. With take it claims the messages. It stops at
// maxBytes, but after at least one message. seen is the queue's version at its begin.
func (e *Engine) scan(q *queue, limit, maxBytes int, take bool) (found []claimedMessage, seen uint64, err error) {
	q.scanning.Lock()
	defer q.scanning.Unlock()
	for {
		e.scans <- struct{}{} // bounds concurrent reads
		r := q.beginScan(e.log, limit)
		r.maxBytes = maxBytes
		b, err := e.readBatch(q, r, limit)
		<-e.scans
		found, again := e.endScan(q, r, b, err == nil, take)
		if err != nil || !again {
			return found, r.version, err
		}
	}
}

// beginScan records the state at the begin of a scan. A commit that is published later
// increments version; one that was published before is in the snapshot.
func (q *queue) beginScan(log *wal.Log, limit int) *scan {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := &scan{version: q.version, snapshot: log.Snapshot(), cursor: q.cursor, turns: q.turns}
	for p := range r.nonEmpty {
		r.nonEmpty[p] = q.availableLocked(messaging.Priority(p)) > 0
		r.requeued[p] = slices.Clone(q.requeued[p])
		r.prefetch[p] = q.prefetchedLocked(messaging.Priority(p), limit)
	}
	q.scan = r
	return r
}

// readBatch reads up to limit messages, higher priorities first or by weight.
func (e *Engine) readBatch(q *queue, r *scan, limit int) (*batch, error) {
	b := &batch{turns: r.turns, maxBytes: cmp.Or(r.maxBytes, maxDeliveryBytes)}
	now := e.now().UnixMilli()
	var lists [messaging.Priorities][]candidate
	found := 0
	for p := messaging.High; p <= messaging.Low; p++ {
		if !r.nonEmpty[p] || b.cut || (found >= limit && e.config.Weights == nil) {
			continue
		}
		want := limit
		if e.config.Weights == nil {
			want -= found
		}
		list, err := e.candidates(q, r, p, want, now, b)
		if err != nil {
			return nil, err
		}
		lists[p] = list
		found += len(list)
	}
	return b, e.readMessages(q, b, &lists, limit)
}

// readMessages reads the messages of a batch, in the order of turns.
func (e *Engine) readMessages(q *queue, b *batch, lists *[messaging.Priorities][]candidate, limit int) (err error) {
	turns := b.turns
	p, ok := nextTurn(e.config.Weights, &turns, lists)
	if !ok {
		return nil
	}
	n := min(limit, len(lists[messaging.High])+len(lists[messaging.Normal])+len(lists[messaging.Low]))
	b.candidates, b.messages = make([]candidate, 0, n), make([]messaging.Message, 0, n)
	records := e.log.RecordReader()
	defer func() { err = errors.Join(err, records.Close()) }()
	ahead := 0
	for bytes := 0; ok && len(b.candidates) < limit; p, ok = nextTurn(e.config.Weights, &turns, lists) {
		if ahead == 0 {
			ahead = min(limit-len(b.candidates), readAhead(b.maxBytes-bytes))
			records.Prefetch(upcoming(e.config.Weights, b.turns, *lists, ahead))
		}
		ahead--
		at := lists[p][0]
		m, err := messageAt(records.Record, q.user, at)
		if errors.Is(err, storage.ErrNotFound) {
			// It was trimmed, or is about to be.
			lists[p] = lists[p][1:]
			b.expired = append(b.expired, at)
			turns = b.turns
			continue
		}
		if err != nil {
			return err
		}
		bytes += len(m.Body) + messaging.JSONOverhead
		if bytes > b.maxBytes && len(b.candidates) > 0 {
			return nil
		}
		lists[p] = lists[p][1:]
		b.turns = turns
		b.candidates = append(b.candidates, at)
		b.messages = append(b.messages, m)
	}
	return nil
}

// upcoming returns the next n sequences of a batch, in the order of turns.
func upcoming(weights *Weights, turns [messaging.Priorities]int, lists [messaging.Priorities][]candidate, n int) []uint64 {
	seqs := make([]uint64, 0, n)
	for len(seqs) < n {
		p, ok := nextTurn(weights, &turns, &lists)
		if !ok {
			break
		}
		seqs = append(seqs, lists[p][0].sequence)
		lists[p] = lists[p][1:]
	}
	return seqs
}

// nextTurn returns the priority of the next message: the highest with an entry or, with
// weights, by smooth weighted round robin. Each priority with an entry gains its weight;
// the one with most credit is next and pays the total.
func nextTurn(weights *Weights, turns *[messaging.Priorities]int, lists *[messaging.Priorities][]candidate) (next messaging.Priority, ok bool) {
	total := 0
	for p := messaging.High; p <= messaging.Low; p++ {
		if len(lists[p]) == 0 {
			continue
		}
		if weights == nil {
			return p, true
		}
		turns[p] += weights[p]
		total += weights[p]
		if !ok || turns[p] > turns[next] {
			next, ok = p, true
		}
	}
	turns[next] -= total
	return next, ok
}

// candidates lists deliverable entries of one priority: first the requeued ones before the
// cursor, then the prefetched ones, then those on disk. It closes its iterator before any
// body is read.
func (e *Engine) candidates(q *queue, r *scan, p messaging.Priority, limit int, now int64, b *batch) (list []candidate, err error) {
	skipped := 0
	consider := func(seq uint64, entry storage.Entry) bool {
		q.mu.Lock()
		hidden := q.hiddenLocked(seq, r.snapshot.Commit)
		q.mu.Unlock()
		at := candidate{p, seq, entry}
		switch {
		case hidden:
			return true
		case entry.Expires != 0 && entry.Expires <= now:
			b.expired = append(b.expired, at)
			skipped++
		case e.config.MaxDeliveries > 0 && entry.Deliveries >= e.config.MaxDeliveries:
			b.exhausted = append(b.exhausted, at)
			skipped++
		default:
			list = append(list, at)
		}
		b.cut = b.cut || skipped >= maxSkipped
		return len(list) < limit && skipped < maxSkipped
	}
	for _, seq := range r.requeued[p] {
		entry, ok, err := r.snapshot.Entry(storage.Queued, q.user, p, seq)
		if err != nil {
			return nil, err
		}
		if ok && !consider(seq, entry) {
			return list, nil
		}
	}
	f, wanted := &r.prefetch[p], true
	for _, w := range f.known {
		if wanted = consider(w.sequence, w.entry); !wanted {
			return list, nil
		}
	}
	if f.from > r.snapshot.Last {
		return list, nil
	}
	f.upTo = endOfQueue
	err = r.snapshot.Entries(storage.Queued, q.user, p, f.from, r.snapshot.Last+1, func(seq uint64, entry storage.Entry) bool {
		wanted = wanted && consider(seq, entry)
		return f.note(readyEntry{seq, entry}, wanted, limit)
	})
	return list, err
}

// message reads the message of an entry.
func (e *Engine) message(user messaging.UserID, at candidate) (messaging.Message, error) {
	return messageAt(e.log.Record, user, at)
}

func messageAt(read func(seq uint64) (wal.Record, error), user messaging.UserID, at candidate) (messaging.Message, error) {
	record, err := read(at.sequence)
	if err != nil {
		return messaging.Message{}, err
	}
	if record.IsBroadcast() {
		return record.CopyFor(at.sequence, 0, messaging.Receiver{User: user, Quoted: at.entry.Quoted}), nil
	}
	return record.Single(at.sequence), nil
}

// endScan returns the messages of a batch that are still available; with take it claims
// them. again reports that the scan must be repeated.
func (e *Engine) endScan(q *queue, r *scan, b *batch, ok, take bool) (found []claimedMessage, again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer r.snapshot.Release()
	if ok {
		for p := messaging.High; p <= messaging.Low; p++ {
			q.learnLocked(p, r)
		}
		found = q.grantLocked(r, b, take)
		if take {
			q.turns = b.turns
			e.discardLocked(q, r, b.expired, e.expireChange)
			e.discardLocked(q, r, b.exhausted, e.deadLetter)
		}
	}
	q.scan = nil
	for p := messaging.High; p <= messaging.Low; p++ {
		q.requeued[p].cutFrom(q.cursor[p]) // prefetched has those, or the next scan finds them
		q.prefetched[p].dropBelow(q.cursor[p])
		q.rewindLocked(p)
	}
	q.forgetPublishedLocked(q.published)
	q.countPrefetchedLocked()
	// Other readers claimed the whole batch, or it was discarded. Retry, because there may
	// be more entries after it, and nothing else would wake a waiter for them.
	gone := len(b.candidates) > 0 || (take && len(b.expired)+len(b.exhausted) > 0)
	return found, ok && gone && len(found) == 0
}

// grantLocked returns the messages of a batch that were neither claimed nor removed since
// they were read.
func (q *queue) grantLocked(r *scan, b *batch, take bool) (found []claimedMessage) {
	found = make([]claimedMessage, 0, len(b.candidates))
	for i, at := range b.candidates {
		if q.hiddenLocked(at.sequence, r.snapshot.Commit) {
			continue
		}
		h := claimedMessage{message: b.messages[i], claim: &claim{priority: at.priority, entry: at.entry}}
		if take {
			q.claimLocked(at.sequence, h.claim)
		}
		found = append(found, h)
	}
	return found
}

// discardLocked claims entries that are no longer deliverable, and starts their removal.
func (e *Engine) discardLocked(q *queue, r *scan, candidates []candidate, start func(q *queue, removing []claimedMessage)) {
	var removing []claimedMessage
	for _, at := range candidates {
		if q.hiddenLocked(at.sequence, r.snapshot.Commit) {
			continue
		}
		held := &claim{priority: at.priority, entry: at.entry, removing: true}
		q.claimLocked(at.sequence, held)
		removing = append(removing, claimedMessage{claim: held, message: messaging.Message{Position: messaging.Position{Sequence: at.sequence}}})
	}
	if len(removing) > 0 {
		e.queues.pinAgain(q) // for the removal
		start(q, removing)
	}
}

// now returns the time for timers: the wall clock's, without its jumps.
func (e *Engine) now() time.Time {
	now, _ := e.clock.read(e.config.Now(), time.Now())
	return now
}

// noTimers is later than every timer.
func noTimers() [2]int64 { return [2]int64{math.MaxInt64, math.MaxInt64} }
