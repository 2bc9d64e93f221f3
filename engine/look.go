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

// maxHandout bounds the messages of one answer, in bytes, where the reader sets
// no bound; there is always at least one message.
const maxHandout = 8 << 20

// maxPassedOver bounds how many entries that are not to be handed out one look
// passes over.
const maxPassedOver = 4096

// maxReadAhead is how many records a look asks for at once at most.
const maxReadAhead = 8

// readAhead is how many records a look may ask for at once with so many bytes left in
// its page: all of them find room there, however large they are, but for the first.
func readAhead(room int) int { return max(1, min(maxReadAhead, room/messaging.MaxBody)) }

// reading is a look at a queue that is under way.
type reading struct {
	epoch uint64
	news  uint64
	room  int // of the messages in bytes; 0 is as much as there may be
	// end is the first sequence that it must not see. It is one for all
	// priorities, or a message could overtake a higher one that came before it.
	end      uint64
	cursor   [messaging.Priorities]uint64
	returned [messaging.Priorities]sequences
	any      [messaging.Priorities]bool
	// foresight is what it knows without reading, and learns for the next one.
	foresight [messaging.Priorities]foresight
	turns     [messaging.Priorities]int
	// missed is what came back behind the cursor meanwhile.
	missed []missed
}

type missed struct {
	priority messaging.Priority
	sequence uint64
}

// place is an entry that a look found.
type place struct {
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
}

// page is what a look found: messages to hand out with their places, and
// entries that are too old to be handed out, have lost their message, or were
// handed out too often.
type page struct {
	places   []place
	messages []messaging.Message
	turns    [messaging.Priorities]int
	expired  []place
	spent    []place
	cut      bool // there may be more behind what was passed over
	room     int  // of the messages, in bytes
}

// handed is a message with its entry while someone has it.
type handed struct {
	message messaging.Message
	out     *outstanding
}

// look finds the next messages of a queue. It reads the disk without the
// queue's lock and then takes what is still there; with take it hands them out.
// Past room bytes it stops, with at least one message. seen is the news that it
// knows of.
func (e *Engine) look(q *queue, limit, room int, take bool) (found []handed, seen uint64, err error) {
	q.reading.Lock()
	defer q.reading.Unlock()
	for {
		r := q.beginRead(e.log, limit)
		r.room = room
		e.looks <- struct{}{} // what is read at a time is bounded
		page, err := e.readPage(q, r, limit)
		<-e.looks
		found, again := e.endRead(q, r, page, err == nil, take)
		if err != nil || !again {
			return found, r.news, err
		}
	}
}

// beginRead notes where to begin. The durable end is read behind the news: what
// is published later is news that the reader has not seen.
func (q *queue) beginRead(log *wal.Log, limit int) *reading {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := &reading{epoch: q.epoch, news: q.news, end: log.Durable() + 1, cursor: q.cursor, turns: q.turns}
	for p := range r.any {
		r.any[p] = q.availableLocked(messaging.Priority(p)) > 0
		r.returned[p] = slices.Clone(q.returned[p])
		r.foresight[p] = q.foreseeLocked(messaging.Priority(p), limit, r.end)
	}
	q.reader = r
	return r
}

// readPage reads up to limit messages from the disk, higher priorities first or
// by their weights.
func (e *Engine) readPage(q *queue, r *reading, limit int) (*page, error) {
	pg := &page{turns: r.turns, room: cmp.Or(r.room, maxHandout)}
	now := e.now().UnixMilli()
	var lists [messaging.Priorities][]place
	found := 0
	for p := messaging.High; p <= messaging.Low; p++ {
		if !r.any[p] || pg.cut || (found >= limit && e.config.Weights == nil) {
			continue
		}
		want := limit
		if e.config.Weights == nil {
			want -= found
		}
		list, err := e.places(q, r, p, want, now, pg)
		if err != nil {
			return nil, err
		}
		lists[p] = list
		found += len(list)
	}
	return pg, e.fill(q, pg, &lists, limit)
}

// fill reads the messages of a page, in the order in which priorities have
// their turns.
func (e *Engine) fill(q *queue, pg *page, lists *[messaging.Priorities][]place, limit int) (err error) {
	turns := pg.turns
	p, ok := nextTurn(e.config.Weights, &turns, lists)
	if !ok {
		return nil
	}
	n := min(limit, len(lists[messaging.High])+len(lists[messaging.Normal])+len(lists[messaging.Low]))
	pg.places, pg.messages = make([]place, 0, n), make([]messaging.Message, 0, n)
	records := e.log.RecordReader()
	defer func() { err = errors.Join(err, records.Close()) }()
	ahead := 0
	for bytes := 0; ok && len(pg.places) < limit; p, ok = nextTurn(e.config.Weights, &turns, lists) {
		if ahead == 0 {
			ahead = min(limit-len(pg.places), readAhead(pg.room-bytes))
			records.Ahead(upcoming(e.config.Weights, pg.turns, *lists, ahead))
		}
		ahead--
		at := lists[p][0]
		m, err := messageAt(records.Record, q.user, at)
		if errors.Is(err, storage.ErrNotFound) {
			// Retention took it, or is about to.
			lists[p] = lists[p][1:]
			pg.expired = append(pg.expired, at)
			turns = pg.turns
			continue
		}
		if err != nil {
			return err
		}
		bytes += len(m.Body) + messaging.JSONOverhead
		if bytes > pg.room && len(pg.places) > 0 {
			return nil
		}
		lists[p] = lists[p][1:]
		pg.turns = turns
		pg.places = append(pg.places, at)
		pg.messages = append(pg.messages, m)
	}
	return nil
}

// upcoming gives the next n sequences of a page, in the order of their turns.
func upcoming(weights *Weights, turns [messaging.Priorities]int, lists [messaging.Priorities][]place, n int) []uint64 {
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

// nextTurn says which priority is next: the highest that has something, or by
// weight (smooth weighted round robin: each that has something gains its
// weight, the one with most goes and pays for all).
func nextTurn(weights *Weights, turns *[messaging.Priorities]int, lists *[messaging.Priorities][]place) (next messaging.Priority, ok bool) {
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

// places lists entries of one priority that may be handed out: first what came
// back before the cursor, then from the cursor on: those that are known, and behind
// them those on disk. It closes its iterator before anyone reads a body.
func (e *Engine) places(q *queue, r *reading, p messaging.Priority, limit int, now int64, pg *page) (list []place, err error) {
	passed := 0
	consider := func(seq uint64, entry storage.Entry) bool {
		q.mu.Lock()
		hidden := q.hiddenLocked(seq)
		q.mu.Unlock()
		at := place{p, seq, entry}
		switch {
		case hidden:
			return true
		case entry.Expires != 0 && entry.Expires <= now:
			pg.expired = append(pg.expired, at)
			passed++
		case e.config.MaxDeliveries > 0 && entry.Deliveries >= e.config.MaxDeliveries:
			pg.spent = append(pg.spent, at)
			passed++
		default:
			list = append(list, at)
		}
		pg.cut = pg.cut || passed >= maxPassedOver
		return len(list) < limit && passed < maxPassedOver
	}
	for _, seq := range r.returned[p] {
		entry, ok, err := e.store.Entry(storage.Queued, q.user, p, seq)
		if err != nil {
			return nil, err
		}
		if ok && !consider(seq, entry) {
			return list, nil
		}
	}
	f, wanted := &r.foresight[p], true
	for _, w := range f.known {
		if wanted = consider(w.sequence, w.entry); !wanted {
			return list, nil
		}
	}
	if f.from >= r.end {
		return list, nil
	}
	f.upTo = r.end
	err = e.store.Entries(storage.Queued, q.user, p, f.from, r.end, func(seq uint64, entry storage.Entry) bool {
		wanted = wanted && consider(seq, entry)
		return f.note(waiting{seq, entry}, wanted, limit)
	})
	return list, err
}

// message reads the message that an entry stands for.
func (e *Engine) message(user messaging.UserID, at place) (messaging.Message, error) {
	return messageAt(e.log.Record, user, at)
}

func messageAt(read func(seq uint64) (wal.Record, error), user messaging.UserID, at place) (messaging.Message, error) {
	record, err := read(at.sequence)
	if err != nil {
		return messaging.Message{}, err
	}
	if record.IsBroadcast() {
		return record.CopyFor(at.sequence, 0, messaging.Receiver{User: user, Quoted: at.entry.Quoted}), nil
	}
	return record.Single(at.sequence), nil
}

// endRead gives of what was read what is still there; with take it is handed
// out. again says that the look has to begin anew.
func (e *Engine) endRead(q *queue, r *reading, pg *page, ok, take bool) (found []handed, again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	void := r.epoch != q.epoch
	if ok && !void {
		for p := messaging.High; p <= messaging.Low; p++ {
			q.learnLocked(p, r)
		}
		found = q.grantLocked(pg, take)
		if take {
			q.turns = pg.turns
			e.discardLocked(q, pg.expired, e.expireChange)
			e.discardLocked(q, pg.spent, e.bury)
		}
	}
	q.reader = nil
	for _, m := range r.missed {
		if m.sequence < q.cursor[m.priority] && q.out[m.sequence] == nil {
			q.returned[m.priority].add(m.sequence)
		}
	}
	for p := messaging.High; p <= messaging.Low; p++ {
		q.ahead[p].passTo(q.cursor[p])
		q.foldLocked(p)
	}
	q.sweepLocked()
	q.weighAheadLocked()
	// What was on the page went while it was read: there may be more behind it,
	// and nothing else would wake a waiter for that.
	gone := len(pg.places) > 0 || (take && len(pg.expired)+len(pg.spent) > 0)
	return found, void || (ok && gone && len(found) == 0)
}

// grantLocked gives the messages of a page that nobody has taken or removed
// meanwhile.
func (q *queue) grantLocked(pg *page, take bool) (found []handed) {
	found = make([]handed, 0, len(pg.places))
	for i, at := range pg.places {
		if q.hiddenLocked(at.sequence) {
			continue
		}
		h := handed{message: pg.messages[i], out: &outstanding{priority: at.priority, entry: at.entry}}
		if take {
			q.handOutLocked(at.sequence, h.out)
		}
		found = append(found, h)
	}
	return found
}

// discardLocked takes entries out of the way that are not handed out any more,
// and starts what becomes of them.
func (e *Engine) discardLocked(q *queue, places []place, start func(q *queue, doomed []handed)) {
	var doomed []handed
	for _, at := range places {
		if q.hiddenLocked(at.sequence) {
			continue
		}
		o := &outstanding{priority: at.priority, entry: at.entry, doomed: true}
		q.handOutLocked(at.sequence, o)
		doomed = append(doomed, handed{out: o, message: messaging.Message{Position: messaging.Position{Sequence: at.sequence}}})
	}
	if len(doomed) > 0 {
		e.queues.pinAgain(q) // for what was started
		start(q, doomed)
	}
}

// now is the time by which messages become due and expire: the wall clock's,
// but for its jumps.
func (e *Engine) now() time.Time {
	now, _ := e.clock.read(e.config.Now(), time.Now())
	return now
}

// noTimers is later than every event.
func noTimers() [2]int64 { return [2]int64{math.MaxInt64, math.MaxInt64} }
