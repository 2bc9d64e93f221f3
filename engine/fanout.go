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

// findFanouts finds committed large broadcasts that are not in all queues yet.
func (e *Engine) findFanouts() error {
	jobs, err := e.store.Fanouts()
	if err != nil {
		return err
	}
	for _, job := range jobs {
		record, err := e.log.Record(job.Sequence)
		if err != nil {
			return fmt.Errorf("%w: unfinished broadcast %d cannot be read: %w", storage.ErrCorrupt, job.Sequence, err)
		}
		e.pendingFanouts.add(job, record.Recipients)
		e.wakeFanout()
	}
	return nil
}

// Fanout enqueues large broadcasts for their receivers until the context ends. Broadcasts
// take turns, fewest remaining receivers first, so one to five thousand users does not
// wait for one to a million. Each commit records the progress, so a crash neither misses a
// receiver nor enqueues for one twice.
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
	var chunk fanoutChunk
	for ctx.Err() == nil {
		// A broadcast whose commit is not durable yet is skipped. Its OnDurable wakes
		// Fanout again.
		job, ok := e.pendingFanouts.next(e.log.Durable())
		if !ok {
			return nil
		}
		if err := e.fanoutStep(ctx, job, &chunk); err != nil {
			return fmt.Errorf("enqueue broadcast %d: %w", job.Sequence, err)
		}
	}
	return nil
}

// fanoutReceivers is how many receivers one commit enqueues for: few enough to hardly
// delay concurrent sends.
const fanoutReceivers = 128

// fanoutChunk is the receivers that were read last, and their broadcast.
type fanoutChunk struct {
	record    wal.Record
	sequence  uint64 // of the broadcast
	number    uint32
	receivers []messaging.Receiver
}

// read returns the receivers of a broadcast from job.Next on, up to the end of their
// chunk.
func (c *fanoutChunk) read(log *wal.Log, job storage.Fanout) (rest []messaging.Receiver, err error) {
	number := job.Next / messaging.ReceiversPerChunk
	if c.sequence != job.Sequence {
		if c.record, err = log.Record(job.Sequence); err != nil {
			return nil, err
		}
	}
	if c.sequence != job.Sequence || c.number != number || c.receivers == nil {
		if c.receivers, err = log.Receivers(&c.record, number); err != nil {
			c.sequence = 0
			return nil, err
		}
	}
	c.sequence, c.number = job.Sequence, number
	if at := int(job.Next % messaging.ReceiversPerChunk); at < len(c.receivers) {
		return c.receivers[at:], nil
	}
	return nil, fmt.Errorf("%w: receiver %d is missing", storage.ErrCorrupt, job.Next)
}

// fanoutStep enqueues for the next receivers in one commit. If there were concurrent
// sends, it then pauses for twice as long as the step took.
func (e *Engine) fanoutStep(ctx context.Context, job storage.Fanout, chunk *fanoutChunk) error {
	began, accepted := time.Now(), e.counters.accepted.Load()
	receivers, err := chunk.read(e.log, job)
	if err != nil {
		return err
	}
	receivers = receivers[:min(len(receivers), fanoutReceivers)]
	targets, err := e.pinAll(receivers)
	if err != nil {
		return err
	}
	defer e.unpinTargets(targets)
	queues := make([]*queue, len(targets))
	for i := range targets {
		queues[i] = targets[i].queue
	}
	if err := e.awaitClears(queues); err != nil { // clears that came after the broadcast
		return err
	}
	job.Next += uint32(len(receivers)) //nolint:gosec // at most a step
	message := &chunk.record.Message
	c := &fanoutChange{
		engine: e, priority: message.Priority, entry: entryOf(message, e.now()),
		targets: targets, job: job, last: job.Next >= chunk.record.Recipients,
	}
	if err := e.log.CommitUnbounded(c); err != nil {
		return err
	}
	if e.counters.accepted.Load() != accepted {
		sleepUntil(ctx, time.Now().Add(min(2*time.Since(began), longestYield)), nil)
	}
	return nil
}

// longestYield bounds the pause for concurrent sends. On a slow disk the fan-out is slow
// enough without a longer one.
const longestYield = 20 * time.Millisecond

// fanoutChange enqueues a broadcast for one step's receivers.
type fanoutChange struct {
	engine   *Engine
	priority messaging.Priority
	entry    storage.Entry
	targets  []fanoutTarget
	job      storage.Fanout
	last     bool
}

// Records implements [wal.Change]. It returns none.
func (c *fanoutChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *fanoutChange) Stage(tx *wal.Tx) {
	c.engine.enqueueAll(tx, c.targets, c.priority, c.job.Sequence, c.entry, false)
	if c.last {
		tx.DeleteFanout(c.job.Sequence)
	} else {
		tx.PutFanout(c.job)
	}
}

// OnDurable implements [wal.Change].
func (c *fanoutChange) OnDurable() { c.engine.pendingFanouts.moved(c.job, c.last) }

// fanoutJobs holds the broadcasts that are not in all queues yet. Fanout takes its turns
// from it, and retention keeps its records.
type fanoutJobs struct {
	mu   sync.Mutex
	jobs map[uint64]fanoutJob
}

// fanoutJob is the durable progress of a broadcast.
type fanoutJob struct {
	storage.Fanout

	recipients uint32
}

func (u *fanoutJobs) add(job storage.Fanout, recipients uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.jobs == nil {
		u.jobs = make(map[uint64]fanoutJob)
	}
	u.jobs[job.Sequence] = fanoutJob{job, recipients}
}

// moved records the progress of a broadcast, or its end.
func (u *fanoutJobs) moved(job storage.Fanout, last bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last {
		delete(u.jobs, job.Sequence)
		return
	}
	u.jobs[job.Sequence] = fanoutJob{job, u.jobs[job.Sequence].recipients}
}

// next returns the durable broadcast with the fewest receivers left; of equal ones, the
// oldest.
func (u *fanoutJobs) next(durable uint64) (next storage.Fanout, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var least uint32
	for seq, job := range u.jobs {
		left := job.recipients - job.Next
		if seq > durable || (ok && (left > least || (left == least && seq > next.Sequence))) {
			continue
		}
		next, least, ok = job.Fanout, left, true
	}
	return next, ok
}

func (u *fanoutJobs) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.jobs)
}

// lowest returns the lowest sequence of an unfinished broadcast, or end if that is lower.
func (u *fanoutJobs) lowest(end uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	for seq := range u.jobs {
		end = min(end, seq)
	}
	return end
}
