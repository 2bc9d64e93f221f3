package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// findFanouts looks for large broadcasts that were answered and are not in all
// queues yet.
func (e *Engine) findFanouts() error {
	jobs, err := e.store.Fanouts()
	if err != nil {
		return err
	}
	for _, job := range jobs {
		e.unfanned.add(job.Sequence)
		e.wakeFanout()
	}
	return nil
}

// Fanout enters large broadcasts into their receivers' queues, one after the
// other, until the context ends. How far it came is part of each commit, so a
// crash neither misses a receiver nor serves one twice.
func (e *Engine) Fanout(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.fanouts:
		}
		if err := e.fanoutAll(ctx); err != nil {
			e.wakeFanout()
			return err
		}
	}
}

func (e *Engine) wakeFanout() {
	select {
	case e.fanouts <- struct{}{}:
	default:
	}
}

func (e *Engine) fanoutAll(ctx context.Context) error {
	for ctx.Err() == nil {
		jobs, err := e.store.Fanouts()
		if err != nil {
			return err
		}
		// What is in the store is not yet published while its commit is under
		// way; its own wake-up comes after.
		if len(jobs) == 0 || jobs[0].Sequence > e.log.Durable() {
			return nil
		}
		if err := e.fanout(ctx, jobs[0]); err != nil {
			return fmt.Errorf("enter broadcast %d into its queues: %w", jobs[0].Sequence, err)
		}
	}
	return nil
}

// fanoutStep is how many receivers are entered in one commit: few enough that
// whoever sends meanwhile hardly notices.
const fanoutStep = 128

func (e *Engine) fanout(ctx context.Context, job storage.Fanout) error {
	record, err := e.log.Record(job.Sequence)
	if err != nil {
		return err
	}
	for job.Next < record.Recipients && ctx.Err() == nil {
		chunk, err := e.log.Receivers(&record, job.Next/messaging.ReceiversPerChunk)
		if err != nil {
			return err
		}
		rest := chunk[job.Next%messaging.ReceiversPerChunk:]
		for len(rest) > 0 && ctx.Err() == nil {
			n := min(len(rest), fanoutStep)
			if job, err = e.fanoutOne(ctx, &record, job, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

// fanoutOne enters the next receivers in one commit. Where others send
// meanwhile, it then leaves them the processors for twice as long as that took.
func (e *Engine) fanoutOne(ctx context.Context, record *wal.Record, job storage.Fanout, receivers []messaging.Receiver) (storage.Fanout, error) {
	began, accepted := time.Now(), e.counters.accepted.Load()
	places, err := e.pinAll(receivers)
	if err != nil {
		return job, err
	}
	defer e.unpinPlaces(places)
	job.Next += uint32(len(receivers)) //nolint:gosec // at most a step
	c := &fanoutChange{
		engine: e, priority: record.Message.Priority, entry: entryOf(&record.Message, e.now()),
		places: places, job: job, last: job.Next >= record.Recipients,
	}
	if err := e.log.Insist(c); err != nil {
		return job, err
	}
	if e.counters.accepted.Load() != accepted {
		sleepUntil(ctx, time.Now().Add(min(2*time.Since(began), longestYield)), nil)
	}
	return job, nil
}

// longestYield bounds how long a fan-out makes way: a slow disk makes it slow
// enough.
const longestYield = 20 * time.Millisecond

// fanoutChange is one chunk of a broadcast's receivers finding it in their
// queues.
type fanoutChange struct {
	engine   *Engine
	priority messaging.Priority
	entry    storage.Entry
	places   []receiverPlace
	job      storage.Fanout
	last     bool
}

// Records implements [wal.Change]: there are none.
func (c *fanoutChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *fanoutChange) Stage(tx *wal.Tx) {
	c.engine.enterAll(tx, c.places, c.priority, c.job.Sequence, c.entry, false)
	if c.last {
		tx.DeleteFanout(c.job.Sequence)
	} else {
		tx.PutFanout(c.job)
	}
}

// Published implements [wal.Change].
func (c *fanoutChange) Published() {
	if c.last {
		c.engine.unfanned.remove(c.job.Sequence)
	}
}

// unfinished is the set of broadcasts that are not in all queues yet, for
// retention, which must leave them.
type unfinished struct {
	mu        sync.Mutex
	sequences map[uint64]struct{}
}

func (u *unfinished) add(seq uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sequences == nil {
		u.sequences = make(map[uint64]struct{})
	}
	u.sequences[seq] = struct{}{}
}

func (u *unfinished) remove(seq uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sequences, seq)
}

func (u *unfinished) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.sequences)
}

// lowest gives the first of them, or end where there is none before it.
func (u *unfinished) lowest(end uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	for seq := range u.sequences {
		end = min(end, seq)
	}
	return end
}
