package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// Bounds of early trim.
const (
	// minEarlyPass and maxEarlyPass bound the bytes of records that one pass trims. A smaller
	// pass is not worth its compaction; a larger one needs more space during it.
	minEarlyPass = 16 << 20
	maxEarlyPass = 128 << 20
	// After a pass over the whole log it pauses for five times the duration of the pass,
	// within these bounds.
	earlyPause        = time.Second
	longestEarlyPause = 10 * time.Minute
	// spaceDelay is how long it waits before it measures the space that a pass has freed,
	// because Pebble deletes tables shortly after a compaction.
	spaceDelay = 100 * time.Millisecond
)

// earlyTrim is the policy for a full disk, with its state between passes. It removes
// records that are settled, in no queue and in no undeliverable dead letter.
type earlyTrim struct {
	trimmer      *trimmer
	changed      chan struct{} // signals that the disk has become full
	cursor       uint64        // where the next pass begins; every record below it was checked
	free         uint64        // every record below it was removed, in this pass or before
	startLogged  bool          // the begin of early trim was logged
	futileLogged bool          // it was logged that trimming cannot free enough space
	passTime     time.Duration // the duration of passes since the last pause
	pending      *reclaim      // a range that is not compacted yet
	gone         trimmed       // what was removed since the disk became full
}

func (t *trimmer) wakeEarly() {
	select {
	case t.early.changed <- struct{}{}:
	default:
	}
}

// EarlyRetention trims messages before their retention ends, while the disk is full and
// until the context ends. It trims messages that the drain has finished with, that are in
// no queue any more (taken, acknowledged, cleared, evicted or expired), and that no
// redrive could requeue. It begins with the oldest and ends when there is enough space. A
// replay skips trimmed messages.
func (e *Engine) EarlyRetention(ctx context.Context) error {
	if e.config.Free == nil {
		<-ctx.Done()
		return nil
	}
	t := e.trimmer
	var wake time.Time
	for sleepUntil(ctx, wake, t.early.changed) {
		pause, err := t.freeSpace(ctx)
		if err != nil && ctx.Err() == nil && messaging.CodeOf(err) != messaging.CodeShuttingDown && !errors.Is(err, storage.ErrDiskFull) {
			return fmt.Errorf("early retention: %w", err)
		}
		if wake = (time.Time{}); pause > 0 {
			wake = time.Now().Add(pause)
		}
	}
	return nil
}

// freeSpace makes passes until there is enough space or nothing more to trim. It aims at
// half as much again as MinFree, so that new messages do not fill the disk at once. pause
// is when to check again, 0 for when the disk is next full.
func (t *trimmer) freeSpace(ctx context.Context) (pause time.Duration, err error) {
	e := t.engine
	for ctx.Err() == nil {
		need := e.spaceNeeded(e.config.MinFree / 2)
		if need == 0 || t.isFutile(ctx) {
			break
		}
		done, err := e.TrimEarly(ctx, max(minEarlyPass, min(need, maxEarlyPass)))
		if err != nil {
			return earlyPause, err
		}
		if done {
			break
		}
		sleepUntil(ctx, time.Now().Add(spaceDelay), nil)
	}
	if !e.diskFull.Load() {
		t.early.logEnd(ctx)
		return 0, nil
	}
	passTime := t.early.passTime
	t.early.passTime = 0
	return max(earlyPause, min(5*passTime, longestEarlyPause)), nil
}

// spaceNeeded returns how many bytes must become free to have spare bytes above MinFree; 0
// if there is enough.
func (e *Engine) spaceNeeded(spare uint64) uint64 {
	free, err := e.config.Free()
	if err != nil {
		return 0 // WatchDisk reports it
	}
	if want := e.config.MinFree + spare + e.store.BallastMissing(); want > free {
		return want - free
	}
	return 0
}

// isFutile reports whether even an empty store would not free enough space for sends to
// resume: something else fills the disk, or DISK_MIN_FREE is too large for it. Then
// trimming stops, because the log is worth more than the space that it would free.
func (t *trimmer) isFutile(ctx context.Context) bool {
	e := t.engine
	need := e.spaceNeeded(e.config.MinFree / resumeShare)
	stored := e.store.Stats().Live()
	if need <= stored {
		return false
	}
	if !t.early.futileLogged {
		e.logger.WarnContext(ctx, "no messages are trimmed early: all of them together would not make enough room; free some space, or lower DISK_MIN_FREE",
			"needed_bytes", need, "store_bytes", stored)
		t.early.futileLogged = true
	}
	return true
}

// logEnd logs, once, how much was trimmed.
func (p *earlyTrim) logEnd(ctx context.Context) {
	if p.startLogged {
		p.trimmer.engine.logger.InfoContext(ctx, "no more messages are trimmed early: there is room on the disk",
			"messages", p.gone.messages, "log_bytes", p.gone.bytes)
	}
	p.startLogged, p.futileLogged, p.gone = false, false, trimmed{}
}

// TrimEarly is one pass. It trims messages of about so many bytes, from the end of the
// last pass on, and reclaims their disk space. done reports that it reached the end of the
// log; the next pass begins at the front again.
func (e *Engine) TrimEarly(ctx context.Context, bytes uint64) (done bool, err error) {
	t := e.trimmer
	t.running.lock()
	defer t.running.unlock()
	p := &t.early
	if err := p.reclaimPending(ctx); err != nil {
		return false, err
	}
	first, end := e.log.FirstSequence(), t.trimLimit()
	from := max(first, p.cursor)
	p.free = first
	r := &trimRun{trimmer: t, policy: p}
	began, next := time.Now(), from
	for r.bytes < bytes && next < end && ctx.Err() == nil && err == nil {
		next, err = r.page(span{next, end})
	}
	if err != nil {
		return false, err
	}
	p.passTime += time.Since(began)
	if done = next >= end; done {
		p.cursor = 0
	} else {
		p.cursor = next
	}
	if r.messages == 0 && p.free == first {
		return done, nil
	}
	if err := t.end(first, p.free, 0); err != nil {
		return false, err
	}
	p.count(ctx, r.trimmed, span{from, next})
	p.pending = &reclaim{min(from, first), next, r.broadcasts}
	return done, p.reclaimPending(ctx)
}

// reclaim is a range of the log whose disk space is to be reclaimed.
type reclaim struct {
	from, to   uint64
	broadcasts bool
}

// reclaimPending reclaims the space of the last pass, if that is still to be done. On a full
// disk it may fail; the next pass retries it.
func (p *earlyTrim) reclaimPending(ctx context.Context) error {
	if p.pending == nil {
		return nil
	}
	e := p.trimmer.engine
	e.log.WaitForReaders(ctx.Done()) // a compaction keeps what a reader's snapshot has
	err := e.store.CompactRange(ctx, p.pending.from, p.pending.to, p.pending.broadcasts)
	if err == nil {
		p.pending = nil
	}
	return err
}

// count adds what a pass has removed from a range, and logs the first pass.
func (p *earlyTrim) count(ctx context.Context, gone trimmed, s span) {
	e := p.trimmer.engine
	p.gone.add(gone)
	e.counters.trimmedEarly.Add(gone.messages)
	if !p.startLogged && gone.messages > 0 {
		settled := "that the backend has and"
		if e.config.DrainPosition == nil {
			settled = "that"
		}
		e.logger.WarnContext(ctx,
			"the disk is full: messages "+settled+" nobody has in a queue are trimmed before MESSAGE_RETENTION_DAYS, the oldest first", //nolint:sloglint // two texts
			"messages", gone.messages, "log_bytes", gone.bytes, "first_sequence", s.from, "last_sequence", s.to-1)
		p.startLogged = true
	}
}

// takesQueued implements [policy].
func (p *earlyTrim) takesQueued() bool { return false }

// held implements [policy]. A redrive needs the record of its dead letter.
func (p *earlyTrim) held(s span) (map[uint64]bool, error) {
	return p.trimmer.undeliverableIn(s.from, s.to)
}

// firstSequence implements [policy].
func (p *earlyTrim) firstSequence(page span, first uint64) uint64 {
	if page.from != p.free {
		return p.free
	}
	return first
}

// done implements [policy].
func (p *earlyTrim) done(page span, stay []keptRecord) {
	if page.from != p.free {
		return
	}
	p.free = page.to
	if len(stay) > 0 {
		p.free = stay[0].sequence
	}
}
