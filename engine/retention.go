package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

const (
	// retentionPage is how many records are let go of in one commit.
	retentionPage = 1024
	// retentionRun is how many one range delete covers at the most.
	retentionRun = 1 << 20
	// longestPause and shortestPause bound how long it sleeps between runs.
	longestPause  = time.Minute
	shortestPause = 100 * time.Millisecond
)

// Retention lets go of what is older than the retention time, until the
// context ends. It never passes the drain nor an unfinished fan-out.
func (e *Engine) Retention(ctx context.Context) error {
	pause := min(longestPause, max(shortestPause, e.config.Retention/20))
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := e.Trim(ctx); err != nil {
			return fmt.Errorf("retention: %w", err)
		}
	}
}

// Trim is one run of retention; it says how many records it let go of.
//
// Each page is one commit: the queue entries of its records, the counts of
// their queues, and the floor, which is the commit point. The records behind
// the floor are removed afterwards by one range delete; a crash before it
// leaves them to the next run.
func (e *Engine) Trim(ctx context.Context) (uint64, error) {
	e.trimming.Lock()
	defer e.trimming.Unlock()
	now, steady := e.clock.read(e.config.Now(), time.Now())
	if e.clock.jumped() {
		e.logger.WarnContext(ctx, "the clock was set: retention waits until it has run steadily for ten minutes")
	}
	if !steady {
		return 0, nil
	}
	first := e.log.Floor()
	cutoff := now.Add(-e.config.Retention).UnixMilli()
	end, err := e.log.ExpiredBefore(cutoff, now.UnixMilli(), retentionRun)
	if err != nil {
		return 0, err
	}
	end = e.requeues.trim(min(end, e.keep()))
	defer e.requeues.trimmed()
	for from := first; from < end && ctx.Err() == nil; from += retentionPage {
		err := e.trimPage(from, min(end, from+retentionPage))
		if errors.Is(err, errDueLater) || messaging.CodeOf(err) == messaging.CodeShuttingDown {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	floor := e.log.Floor()
	if floor == first {
		return 0, nil
	}
	batch := e.store.NewBatch()
	defer batch.Close()
	batch.TrimLog(floor, cutoff)
	batch.Commit()
	e.counters.retained.Add(floor - first)
	return floor - first, nil
}

// keep is the first sequence that retention must leave whatever its age.
func (e *Engine) keep() uint64 {
	keep := e.log.Durable() + 1
	if e.config.Settled != nil {
		keep = min(keep, e.config.Settled().Sequence)
	}
	return e.unfanned.lowest(keep)
}

// errDueLater ends a run at a message that is due later, which must stay.
var errDueLater = errors.New("a message is due later")

// errMoved is errDueLater of an entry that was moved since it was looked at:
// nothing of the page's change was done.
var errMoved = fmt.Errorf("%w since it was looked at", errDueLater)

// trimDrops bounds how many queue entries are removed in one commit.
const trimDrops = 4096

// trimPage lets go of the records in [from, to).
func (e *Engine) trimPage(from, to uint64) error {
	records, err := e.recordsOf(from, to)
	if err != nil {
		return err
	}
	t := &trimmer{engine: e, change: &trimChange{engine: e}}
	defer t.unpin()
	for i := range records {
		seq := from + uint64(i)
		err := t.record(seq, &records[i])
		if errors.Is(err, errDueLater) && !errors.Is(err, errMoved) {
			t.change.floor = seq
			return errors.Join(t.commit(), errDueLater)
		}
		if err != nil {
			return err
		}
	}
	t.change.floor = to
	return t.commit()
}

// recordsOf reads a page of records, without their bodies.
func (e *Engine) recordsOf(from, to uint64) (records []wal.Record, err error) {
	err = e.store.Records(from, to, func(seq uint64, raw []byte) (bool, error) {
		record, err := wal.DecodeRecord(raw)
		if err != nil {
			return false, fmt.Errorf("%w: record %d: %w", storage.ErrDamaged, seq, err)
		}
		record.Message.Body = nil
		records = append(records, record)
		return true, nil
	})
	if err == nil && uint64(len(records)) != to-from {
		err = fmt.Errorf("%w: %d of the records %d to %d are there", storage.ErrDamaged, len(records), from, to-1)
	}
	return records, err
}

// trimmer gathers what a page of records still has in queues.
type trimmer struct {
	engine *Engine
	change *trimChange
}

// commit makes the change durable and begins a new one.
func (t *trimmer) commit() error {
	err := t.engine.log.Insist(t.change)
	if err == nil && t.change.delayed {
		err = errMoved
	}
	t.unpin()
	t.change = &trimChange{engine: t.engine}
	return err
}

func (t *trimmer) unpin() {
	for _, d := range t.change.drops {
		t.engine.queues.unpin(d.queue)
	}
	t.change.drops = nil
}

func (t *trimmer) record(seq uint64, record *wal.Record) error {
	if record.Trimmed || record.Lost {
		return nil
	}
	if !record.IsBroadcast() {
		return t.drop(seq, record.Message.Priority, record.Message.Receiver.User)
	}
	for n := uint32(0); n < record.Recipients; n += messaging.ReceiversPerChunk {
		receivers, err := t.engine.log.Receivers(record, n/messaging.ReceiversPerChunk)
		if err != nil {
			return err
		}
		for _, r := range receivers {
			if err := t.drop(seq, record.Message.Priority, r.User); err != nil {
				return err
			}
		}
	}
	t.change.broadcasts = append(t.change.broadcasts, record.Message.ID)
	return nil
}

// drop adds an entry that is there to the change, its queue pinned. A large
// change is committed at once: it moves no floor, so a crash behind it only
// leaves less to do.
func (t *trimmer) drop(seq uint64, p messaging.Priority, user messaging.UserID) error {
	// The queue is looked at again behind the other shelf: what becomes due in
	// between is on neither when its turn comes.
	for _, shelf := range [...]storage.Shelf{storage.Queued, storage.Delayed, storage.Queued} {
		_, has, err := t.engine.store.Entry(shelf, user, p, seq)
		switch {
		case err != nil:
			return err
		case has && shelf == storage.Delayed:
			return errDueLater
		case has:
			return t.take(seq, p, user)
		}
	}
	return nil
}

// take adds an entry to the change.
func (t *trimmer) take(seq uint64, p messaging.Priority, user messaging.UserID) error {
	q, err := t.engine.queues.pin(user)
	if err != nil {
		return err
	}
	t.change.drops = append(t.change.drops, drop{queue: q, priority: p, sequence: seq})
	if len(t.change.drops) < trimDrops {
		return nil
	}
	return t.commitDrops()
}

// commitDrops commits the entries alone: the receivers of a broadcast go with
// the floor, or a crash in between could not find them again.
func (t *trimmer) commitDrops() error {
	broadcasts := t.change.broadcasts
	t.change.broadcasts = nil
	err := t.commit()
	t.change.broadcasts = broadcasts
	return err
}

// trimChange is records that retention lets go of.
type trimChange struct {
	engine     *Engine
	floor      uint64
	drops      []drop
	broadcasts []messaging.MessageID
	delayed    bool // one of the entries is due later by now: nothing was done
}

// drop is a queue entry whose record goes. Its queue is pinned by the trimmer.
type drop struct {
	queue    *queue
	priority messaging.Priority
	sequence uint64
}

// Records implements [wal.Change]: there are none.
func (c *trimChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *trimChange) Stage(tx *wal.Tx) {
	if c.delayed = slices.ContainsFunc(c.drops, c.engine.isDelayed); c.delayed {
		return
	}
	for _, d := range c.drops {
		c.engine.drop(tx, d)
	}
	for _, id := range c.broadcasts {
		tx.DeleteReceivers(id)
	}
	tx.SetFloor(c.floor)
}

// Published implements [wal.Change].
func (c *trimChange) Published() {}

func (e *Engine) isDelayed(d drop) bool {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	if d.queue.state.Delayed.Total() == 0 {
		return false
	}
	shelf, _, ok, err := e.whereLocked(d.queue, d.priority, d.sequence)
	return err != nil || (ok && shelf == storage.Delayed)
}

// drop removes one entry, if nobody did since it was found.
func (e *Engine) drop(tx *wal.Tx, d drop) {
	q := d.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if shelf, entry, ok, err := e.whereLocked(q, d.priority, d.sequence); err == nil && ok {
		e.removeLocked(tx, q, shelf, d.priority, d.sequence, entry)
	}
}

// requeues keeps retention and what comes back into queues apart: retention
// does not see an entry whose commit is under way when it looks. What comes back
// holds coming for reading, and a page of early trimming holds it for writing.
type requeues struct {
	coming    sync.RWMutex
	mu        sync.Mutex
	end       uint64         // retention lets go of what is below; 0 while it rests
	sequences map[uint64]int // what is coming back
}

// enter says that a message comes back, until leave; false says that retention
// is letting go of it.
func (r *requeues) enter(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq < r.end {
		return false
	}
	if r.sequences == nil {
		r.sequences = make(map[uint64]int)
	}
	r.sequences[seq]++
	return true
}

func (r *requeues) leave(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sequences[seq]--; r.sequences[seq] == 0 {
		delete(r.sequences, seq)
	}
}

// trim gives how far retention may go, at most to end, until trimmed.
func (r *requeues) trim(end uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq := range r.sequences {
		end = min(end, seq)
	}
	r.end = end
	return end
}

func (r *requeues) trimmed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = 0
}
