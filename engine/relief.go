package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Bounds of early trimming.
const (
	// reliefLeast and reliefMost bound the records of one pass in bytes: rewriting
	// less is not worth its while, and rewriting more wants more room meanwhile.
	reliefLeast = 16 << 20
	reliefMost  = 128 << 20
	// reliefPage is how many records are looked at for one commit.
	reliefPage = 512
	// Where everything was looked at it pauses, five times as long as the look
	// took, within these bounds.
	reliefPause        = time.Second
	longestReliefPause = 10 * time.Minute
	// reliefSettles is for how long it waits to see the room that a pass made:
	// tables are deleted a little after they were rewritten.
	reliefSettles = 100 * time.Millisecond
)

// relief is what early trimming knows. All but news is the one goroutine's that
// runs Relieve.
type relief struct {
	news   chan struct{} // the disk has become full
	cursor uint64        // where the next pass begins; below it all was looked at
	told   bool          // the log has said that messages go early
	vain   bool          // the log has said that it would be in vain
	looked time.Duration // how long looking took since the last pause
	owed   *reclaim      // room that could not be given back yet
	// messages and bytes are what went since the disk became full.
	messages, bytes uint64
}

func (e *Engine) wakeRelief() {
	select {
	case e.relief.news <- struct{}{}:
	default:
	}
}

// Relieve trims before its time, while the disk is full and until the context
// ends, what nobody waits for: messages that the drain is done with, that no
// replay has yet to read, and that nobody has in a queue any more (taken,
// acknowledged, cleared, evicted, expired) nor could get back by a redrive. It
// begins with the oldest and ends when there is room.
//
// One reader who never comes must not hold up everything that is younger than
// his messages. So records up to the first that is still wanted go with the
// floor, as they do by age; of those behind it only the messages go, and a stub
// stays in each one's place: sequences stay without gaps.
func (e *Engine) Relieve(ctx context.Context) error {
	if e.config.Free == nil {
		<-ctx.Done()
		return nil
	}
	var wake time.Time
	for sleepUntil(ctx, wake, e.relief.news) {
		pause, err := e.relieve(ctx)
		if err != nil && ctx.Err() == nil && messaging.CodeOf(err) != messaging.CodeShuttingDown && !errors.Is(err, storage.ErrDiskFull) {
			return fmt.Errorf("early retention: %w", err)
		}
		if wake = (time.Time{}); pause > 0 {
			wake = time.Now().Add(pause)
		}
	}
	return nil
}

// relieve makes passes until there is room or nothing more to trim; pause is
// after which time it is to look again, 0 for when the disk is full anew.
func (e *Engine) relieve(ctx context.Context) (pause time.Duration, err error) {
	for ctx.Err() == nil {
		need := e.roomNeeded(e.config.MinFree / 2)
		if need == 0 || e.inVain(ctx) {
			break
		}
		done, err := e.TrimEarly(ctx, max(reliefLeast, min(need, reliefMost)))
		if err != nil {
			return reliefPause, err
		}
		if done {
			break
		}
		sleepUntil(ctx, time.Now().Add(reliefSettles), nil)
	}
	if !e.diskFull.Load() {
		e.relieved(ctx)
		return 0, nil
	}
	looked := e.relief.looked
	e.relief.looked = 0
	return max(reliefPause, min(5*looked, longestReliefPause)), nil
}

// roomNeeded is how much must become free to have spare bytes more than the
// minimum. It aims at half as much again, so that the next messages do not fill
// the disk at once.
func (e *Engine) roomNeeded(spare uint64) uint64 {
	free, err := e.config.Free()
	if err != nil {
		return 0 // WatchDisk reports it
	}
	if want := e.config.MinFree + spare + e.store.ReserveMissing(); want > free {
		return want - free
	}
	return 0
}

// inVain says whether even a store without a message would not be small enough
// for sends to be taken again: something else fills the disk, or DISK_MIN_FREE is
// too large for it. Then the log is worth more than the little room that it would
// make.
func (e *Engine) inVain(ctx context.Context) bool {
	need := e.roomNeeded(e.config.MinFree / resumeShare)
	stored := e.store.Stats().Live()
	if need <= stored {
		return false
	}
	if !e.relief.vain {
		e.logger.WarnContext(ctx, "no messages are trimmed early: all of them together would not make enough room; free some space, or lower DISK_MIN_FREE",
			"needed_bytes", need, "store_bytes", stored)
		e.relief.vain = true
	}
	return true
}

// relieved says, once, what it came to.
func (e *Engine) relieved(ctx context.Context) {
	r := &e.relief
	if r.told {
		e.logger.InfoContext(ctx, "no more messages are trimmed early: there is room on the disk",
			"messages", r.messages, "log_bytes", r.bytes)
	}
	r.told, r.vain, r.messages, r.bytes = false, false, 0, 0
}

// TrimEarly is one pass: it trims messages of about so many bytes, from where
// the last pass ended, and gives their room back to the disk. done says that
// the end was reached: the next pass begins anew.
func (e *Engine) TrimEarly(ctx context.Context, bytes uint64) (done bool, err error) {
	e.trimming.Lock()
	defer e.trimming.Unlock()
	if err := e.reclaimOwed(ctx); err != nil {
		return false, err
	}
	first := e.log.Floor()
	p := &reliefPass{engine: e, next: max(first, e.relief.cursor), end: e.keep()}
	p.first = p.next
	began := time.Now()
	for p.bytes < bytes && p.next < p.end && ctx.Err() == nil {
		if err := p.page(min(p.end, p.next+reliefPage)); err != nil {
			return false, err
		}
		p.end = min(p.end, e.keep()) // a replay may have begun
	}
	e.relief.looked += time.Since(began)
	if e.relief.cursor = p.next; p.next >= p.end {
		e.relief.cursor = 0
	}
	floor := e.log.Floor()
	if p.messages == 0 && floor == first {
		return p.next >= p.end, nil
	}
	if floor > first {
		batch := e.store.NewBatch()
		defer batch.Close()
		batch.TrimLog(floor, 0)
		batch.Commit()
	}
	e.countRelief(ctx, p)
	e.relief.owed = &reclaim{min(p.first, first), p.next, p.broadcasts}
	return p.next >= p.end, e.reclaimOwed(ctx)
}

// reclaim is a range of the log whose room is to be given back.
type reclaim struct {
	from, to   uint64
	broadcasts bool
}

// reclaimOwed gives the room back of the last pass, if that was not done yet: on
// a full disk it may fail.
func (e *Engine) reclaimOwed(ctx context.Context) error {
	owed := e.relief.owed
	if owed == nil {
		return nil
	}
	err := e.store.Reclaim(ctx, owed.from, owed.to, owed.broadcasts)
	if err == nil {
		e.relief.owed = nil
	}
	return err
}

func (e *Engine) countRelief(ctx context.Context, p *reliefPass) {
	r := &e.relief
	r.messages += p.messages
	r.bytes += p.bytes
	e.counters.relieved.Add(p.messages)
	if !r.told && p.messages > 0 {
		e.logger.WarnContext(ctx, "the disk is full: messages that the backend has and nobody has in a queue are trimmed before MESSAGE_RETENTION_DAYS, the oldest first",
			"messages", p.messages, "log_bytes", p.bytes, "first_sequence", p.first, "last_sequence", p.next-1)
		r.told = true
	}
}

// reliefPass is one pass over a part of the log.
type reliefPass struct {
	engine          *Engine
	first, next     uint64
	end             uint64
	messages, bytes uint64
	broadcasts      bool
}

// stubbed is a record whose message goes.
type stubbed struct {
	sequence uint64
	size     int
	record   wal.Record
}

// page looks at the records in [next, to) and lets go of those that nobody
// wants. What comes back into queues waits meanwhile: an entry that is not there
// when it is looked for does not come before the commit.
func (p *reliefPass) page(to uint64) error {
	e := p.engine
	e.requeues.coming.Lock()
	defer e.requeues.coming.Unlock()
	candidates, err := p.candidates(to)
	if err != nil {
		return err
	}
	// Behind the look at the queues: a dead letter is written before its message
	// leaves its queue.
	dead, err := e.store.Control().UndeliverableIn(p.next, to)
	if err != nil {
		return err
	}
	c := &reliefChange{engine: e, floor: e.log.Floor()}
	contiguous := c.floor == p.next
	for seq := p.next; seq < to; seq++ {
		gone, ok := candidates[seq]
		if ok && dead[seq] {
			ok = false
		}
		if contiguous = contiguous && ok; contiguous {
			c.floor = seq + 1
		}
		if ok && !gone.record.Trimmed && !gone.record.Lost {
			c.add(gone)
		}
	}
	if c.floor > e.log.Floor() || len(c.stubs) > 0 {
		if err := e.log.Insist(c); err != nil {
			return err
		}
	}
	p.next = to
	p.messages += uint64(len(c.stubs))
	p.bytes += c.bytes
	p.broadcasts = p.broadcasts || len(c.broadcasts) > 0
	return nil
}

// candidates gives the records in [next, to) that stand in no queue.
func (p *reliefPass) candidates(to uint64) (map[uint64]stubbed, error) {
	found := make([]stubbed, 0, reliefPage)
	err := p.engine.store.Records(p.next, to, func(seq uint64, raw []byte) (bool, error) {
		record, err := wal.DecodeRecord(raw)
		if err != nil {
			return false, fmt.Errorf("%w: record %d: %w", storage.ErrDamaged, seq, err)
		}
		record.Message.Body = nil // it is the iterator's
		found = append(found, stubbed{seq, len(raw), record})
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	gone := make(map[uint64]stubbed, len(found))
	for i := range found {
		wanted, err := p.engine.isQueued(found[i].sequence, &found[i].record)
		if err != nil {
			return nil, err
		}
		if !wanted {
			gone[found[i].sequence] = found[i]
		}
	}
	return gone, nil
}

// isQueued says whether a message stands in a queue, due later and leased ones
// included.
func (e *Engine) isQueued(seq uint64, record *wal.Record) (bool, error) {
	if record.Trimmed || record.Lost {
		return false, nil
	}
	if !record.IsBroadcast() {
		return e.stands(seq, record.Message.Priority, record.Message.Receiver.User)
	}
	for n := uint32(0); n < record.Recipients; n += messaging.ReceiversPerChunk {
		receivers, err := e.log.Receivers(record, n/messaging.ReceiversPerChunk)
		if err != nil {
			return false, err
		}
		for _, r := range receivers {
			if stands, err := e.stands(seq, record.Message.Priority, r.User); stands || err != nil {
				return stands, err
			}
		}
	}
	return false, nil
}

// stands looks at the queue again behind the other shelf: what becomes due in
// between is on neither when its turn comes.
func (e *Engine) stands(seq uint64, p messaging.Priority, user messaging.UserID) (bool, error) {
	for _, shelf := range [...]storage.Shelf{storage.Queued, storage.Delayed, storage.Queued} {
		if _, has, err := e.store.Entry(shelf, user, p, seq); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// reliefChange is messages that go early. The floor is the commit point for
// those below it; their records are removed behind it by one range delete, and
// by the next run of retention after a crash before that.
type reliefChange struct {
	engine     *Engine
	floor      uint64
	stubs      []stubbed
	broadcasts []messaging.MessageID
	bytes      uint64
}

func (c *reliefChange) add(s stubbed) {
	c.stubs = append(c.stubs, s)
	c.bytes += uint64(s.size) //nolint:gosec // not negative
	if s.record.IsBroadcast() {
		c.broadcasts = append(c.broadcasts, s.record.Message.ID)
	}
}

// Records implements [wal.Change]: there are none.
func (c *reliefChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *reliefChange) Stage(tx *wal.Tx) {
	for i := range c.stubs {
		if c.stubs[i].sequence >= c.floor {
			tx.TrimRecord(c.stubs[i].sequence, &c.stubs[i].record)
		}
	}
	for _, id := range c.broadcasts {
		tx.DeleteReceivers(id)
	}
	tx.SetFloor(c.floor)
}

// Published implements [wal.Change].
func (c *reliefChange) Published() {}
