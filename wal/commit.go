package wal

import (
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/storage"
)

// committer is the only goroutine that writes. While it and the disk are busy, the next
// group collects in pending: this is the whole group commit. A group is staged only after
// the last one is durable. Overlapping commits are more and smaller, and an extra fsync
// costs more than the overlap hides (docs/adr/0003).
func (l *Log) committer() {
	defer close(l.syncing)
	for {
		l.disk <- struct{}{}
		g := l.next()
		if g == nil {
			return
		}
		l.apply(g)
		l.syncing <- g
	}
}

// publisher waits for commits to be durable and publishes them. Readers rely on its order:
// the snapshot is taken before the next commit can be applied, and readers can get it
// before anyone is notified of its contents. A woken waiter reads that snapshot or a newer
// one.
func (l *Log) publisher() {
	defer close(l.done)
	for g := range l.syncing {
		l.waiting.Store(&g.began)
		g.batch.Wait()
		snapshot := l.snapshots.take(l.store, g.number, &g.meta)
		<-l.disk
		l.waiting.Store(nil)
		l.snapshots.publish(snapshot)
		if l.config.Observe != nil {
			l.config.Observe(len(g.changes), g.batch.Len(), time.Since(g.began))
		}
		if l.config.Early == 0 {
			l.publish(g)
		}
		g.batch.Close()
	}
}

// next waits for a group with changes. It returns nil when the log is closed and no change
// is pending.
func (l *Log) next() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending.changes) == 0 {
		if l.closed {
			return nil
		}
		l.work.Wait()
	}
	g := l.pending
	l.pending = newGroup()
	return g
}

// apply stages a group and hands it to the store. The commit point is the fsync that the
// publisher waits for. Recovery finds all of the group or none of it.
func (l *Log) apply(g *group) {
	g.batch = l.store.NewBatch()
	g.spans = make([]span, len(g.changes))
	l.commits++
	// Records come first, then all other keys: keys in order are cheaper to insert.
	for i, c := range g.changes {
		g.spans[i] = l.append(g.batch, c.Records())
	}
	for i, c := range g.changes {
		c.Stage(&Tx{Writer: g.batch.Writer, Sequence: g.spans[i].first, Last: g.spans[i].last, Commit: l.commits, log: l})
	}
	g.onDurable = l.preCommit(&Tx{Writer: g.batch.Writer, Commit: l.commits, log: l})
	g.batch.PutMeta(l.meta)
	g.meta, g.number, g.began = l.meta, l.commits, time.Now()
	if l.config.Early > 0 {
		l.publish(g)
		time.Sleep(l.config.Early)
	}
	l.applying.Store(&g.began)
	g.batch.Apply()
	l.applying.Store(nil)
}

// Stalled returns how long the running commits have been waiting for the disk, or 0 if
// there are none. It covers apply as well as the fsync: the store accepts no writes while
// its background work is stuck.
func (l *Log) Stalled() (longest time.Duration) {
	for _, running := range []*atomic.Pointer[time.Time]{&l.applying, &l.waiting} {
		if began := running.Load(); began != nil {
			longest = max(longest, time.Since(*began))
		}
	}
	return longest
}

// append assigns sequences to records and adds them to the batch.
func (l *Log) append(batch *storage.Batch, records []Record) (s span) {
	if len(records) > 0 {
		s.first = l.meta.Last + 1
	}
	for i := range records {
		record := &records[i]
		l.meta.Last++
		seq := l.meta.Last
		batch.PutRecord(seq, record.size(), func(dst []byte) {
			record.encode(dst)
			l.cache.put(seq, dst)
		})
		if ms := record.Message.CreatedAt.UnixMilli(); l.clock.due(ms, l.meta.Last) {
			batch.PutTime(ms, l.meta.Last)
		}
	}
	s.last = l.meta.Last
	return s
}

func (l *Log) publish(g *group) {
	moved := l.durable.Swap(g.meta.Last) != g.meta.Last
	l.firstSequence.Store(g.meta.FirstSequence)
	l.queued.Store(g.meta.Queued)
	l.trimmed.Store(g.meta.Trimmed)
	for _, c := range g.changes {
		c.OnDurable()
	}
	g.onDurable()
	if moved {
		l.mu.Lock()
		close(l.tail)
		l.tail = make(chan struct{})
		l.mu.Unlock()
	}
	close(g.done)
}

// The time index has an entry at least every so many records or milliseconds.
const (
	timeIndexRecords = 4096
	timeIndexMillis  = 10_000
)

// timeIndex decides which records get an entry in the time index. The times of entries
// only increase, even if the clock is set back.
type timeIndex struct {
	last int64
	seq  uint64
}

func (t *timeIndex) due(ms int64, seq uint64) bool {
	if ms <= t.last || (ms-t.last < timeIndexMillis && seq-t.seq < timeIndexRecords) {
		return false
	}
	t.last, t.seq = ms, seq
	return true
}
