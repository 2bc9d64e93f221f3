package wal

import (
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/storage"
)

// committer is the one goroutine that writes. While it and the disk are busy,
// the next group gathers by itself: that is all there is to group commit. The
// next one is not staged before the last is durable: commits that overlap are
// more and smaller, and an fsync costs more than it hides (docs/adr/0003).
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

// publisher waits for commits to be durable and tells everyone, while the
// committer has the next one.
func (l *Log) publisher() {
	defer close(l.done)
	for g := range l.syncing {
		l.waiting.Store(&g.began)
		g.batch.Wait()
		<-l.disk
		l.waiting.Store(nil)
		if l.config.Observe != nil {
			l.config.Observe(len(g.changes), g.batch.Len(), time.Since(g.began))
		}
		if l.config.Early == 0 {
			l.publish(g)
		}
		g.batch.Close()
	}
}

// next waits for a group with changes; nil says that the log is closed and
// nothing waits any more.
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

// apply stages a group and hands it to the store. The commit point is the fsync
// that the publisher waits for: before it nothing has happened, after it all
// has, and recovery finds one or the other.
func (l *Log) apply(g *group) {
	g.batch = l.store.NewBatch()
	g.spans = make([]span, len(g.changes))
	l.commits++
	// Records come first, then all the rest: keys in order are cheaper to insert.
	for i, c := range g.changes {
		g.spans[i] = l.append(g.batch, c.Records())
	}
	for i, c := range g.changes {
		c.Stage(&Tx{Batch: g.batch, Sequence: g.spans[i].first, Last: g.spans[i].last, Commit: l.commits, log: l})
	}
	g.published = l.finish(&Tx{Batch: g.batch, Commit: l.commits, log: l})
	g.batch.PutMeta(l.meta)
	g.meta, g.began = l.meta, time.Now()
	if l.config.Early > 0 {
		l.publish(g)
		time.Sleep(l.config.Early)
	}
	l.applying.Store(&g.began)
	g.batch.Apply()
	l.applying.Store(nil)
}

// Stalled says for how long the commits that are running have been waiting for
// the disk; 0 when there is none. Not only the fsync can hold them up: the
// store takes nothing while its background work is stuck.
func (l *Log) Stalled() (longest time.Duration) {
	for _, running := range []*atomic.Pointer[time.Time]{&l.applying, &l.waiting} {
		if began := running.Load(); began != nil {
			longest = max(longest, time.Since(*began))
		}
	}
	return longest
}

// append gives records their sequences and adds them to the batch.
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
	l.floor.Store(g.meta.Floor)
	l.queued.Store(g.meta.Queued)
	for _, c := range g.changes {
		c.Published()
	}
	g.published()
	if moved {
		l.mu.Lock()
		close(l.tail)
		l.tail = make(chan struct{})
		l.mu.Unlock()
	}
	close(g.done)
}

// The time index has a note at least every so many records or milliseconds.
const (
	timeIndexRecords = 4096
	timeIndexMillis  = 10_000
)

// timeIndex decides which records get a note in the time index. Notes only move
// forward in time, also when the clock does not.
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
