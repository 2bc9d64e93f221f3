package engine

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

const (
	// timerPage is how many timers one commit fires.
	timerPage = 1024
	// openEvents of each kind, and openTime, bound the timers fired before a start is
	// ready.
	openEvents = 10_000
	openTime   = time.Second
	// clockInterval is how often the clock is read while waiting for a timer, because it may
	// have been set.
	clockInterval = time.Second
)

// events are the kinds of timers, in the order in which they fire: a message that is due
// and expires at the same time is not delivered.
var events = [2]storage.Event{storage.Expiry, storage.Due}

// timers remembers, for each kind, up to where timers have fired, and when the next one
// fires. Without it, a read would have to skip the tombstones of fired timers on disk.
type timers struct {
	mu      sync.Mutex
	from    [2]int64 // no timer is before it
	next    [2]int64 // no timer is before it; math.MaxInt64 if there is none
	changed chan struct{}
}

func newTimers() *timers { return &timers{changed: make(chan struct{}, 1)} }

// note adds the earliest timers of a commit.
func (t *timers) note(earliest [2]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind, at := range earliest {
		t.from[kind] = min(t.from[kind], at)
		if at < t.next[kind] {
			t.next[kind] = at
			select {
			case t.changed <- struct{}{}:
			default:
			}
		}
	}
}

// putTimer adds a timer to a commit.
func (e *Engine) putTimer(tx *wal.Tx, what storage.Event, t storage.Timer, p messaging.Priority) {
	tx.PutTimer(what, t, p)
	for kind := range events {
		if events[kind] == what {
			e.earliest[kind] = min(e.earliest[kind], t.At)
		}
	}
}

// Schedule enqueues messages that become due and removes messages that expire, until the
// context ends.
func (e *Engine) Schedule(ctx context.Context) error {
	for {
		now := e.now()
		next := int64(math.MaxInt64)
		for kind := range events {
			at, err := e.runEvents(ctx, kind, now.UnixMilli())
			if err != nil {
				return fmt.Errorf("schedule: %w", err)
			}
			next = min(next, at)
		}
		wait := clockInterval
		if next != math.MaxInt64 {
			wait = min(wait, max(0, time.UnixMilli(next).Sub(e.now())))
		}
		if !sleepUntil(ctx, time.Now().Add(wait), e.timers.changed) {
			return nil
		}
	}
}

// runEvents fires all timers of one kind up to now, and returns the time of the next one.
func (e *Engine) runEvents(ctx context.Context, kind int, now int64) (int64, error) {
	for ctx.Err() == nil {
		from, next, ok := e.timers.begin(kind, now)
		if !ok {
			return next, nil
		}
		if whole, err := e.walkEvents(kind, from, now, func(int) bool { return ctx.Err() == nil }); err != nil || !whole {
			e.timers.done(kind, from, next) // retried later
			if messaging.CodeOf(err) == messaging.CodeShuttingDown {
				return math.MaxInt64, nil
			}
			return math.MaxInt64, err
		}
		following, err := e.nextEvent(kind, now+1)
		if err != nil {
			e.timers.done(kind, from, next)
			return 0, err
		}
		e.timers.done(kind, now+1, following)
	}
	return math.MaxInt64, nil
}

// walkEvents fires the timers of one kind in [from, now], one page per commit, while more
// returns true; whole reports whether it reached the end. The timer of a claimed entry
// stays, so each page begins after the last timer of the one before.
func (e *Engine) walkEvents(kind int, from, now int64, more func(events int) bool) (whole bool, err error) {
	var last *storage.Timer
	for events := 0; more(events); {
		found, err := e.dueEvents(kind, from, now, last)
		if err != nil {
			return false, err
		}
		later := false
		if len(found) > 0 {
			if later, err = e.commitEvents(kind, found, now); err != nil {
				return false, err
			}
		}
		events += len(found)
		switch {
		case later: // the same page again
		case len(found) < timerPage:
			return true, nil
		default:
			last = &found[len(found)-1].timer
		}
	}
	return false, nil
}

// catchUp fires the timers that came due while the service was stopped, before a start is
// ready. A message that expired under a lease must not count in a full queue, where it
// would evict others. [Engine.Schedule] continues with the rest.
func (e *Engine) catchUp() error {
	began, now := time.Now(), e.now().UnixMilli()
	for kind := range events {
		if _, err := e.walkEvents(kind, 0, now, func(events int) bool {
			return events < openEvents && time.Since(began) < openTime
		}); err != nil {
			return err
		}
	}
	return nil
}

// begin returns where to begin to read; ok is false if no timer is due. It resets the
// bounds, and timers added from then on lower them again.
func (t *timers) begin(kind int, now int64) (from, next int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, next = t.from[kind], t.next[kind]
	if next > now {
		return from, next, false
	}
	t.from[kind], t.next[kind] = math.MaxInt64, math.MaxInt64
	return from, next, true
}

// done records how far timers have fired. An earlier timer added since keeps its lower
// bound.
func (t *timers) done(kind int, reached, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from[kind] = min(t.from[kind], reached)
	t.next[kind] = min(t.next[kind], next)
}

// event is a timer that is due, with its queue, pinned, and the index and the entry in the
// snapshot that was read for the commit.
type event struct {
	timer    storage.Timer
	priority messaging.Priority
	queue    *queue
	index    storage.Index // 0: there is no entry
	entry    storage.Entry
}

// dueEvents reads a page of due timers: those after last, or from a time on.
func (e *Engine) dueEvents(kind int, from, now int64, last *storage.Timer) (found []event, err error) {
	each := func(t storage.Timer, p messaging.Priority) bool {
		found = append(found, event{timer: t, priority: p})
		return len(found) < timerPage
	}
	if last != nil {
		err = e.store.TimersAfter(events[kind], *last, now, each)
	} else {
		err = e.store.Timers(events[kind], from, now, each)
	}
	return found, err
}

func (e *Engine) nextEvent(kind int, from int64) (int64, error) {
	at, ok, err := e.store.NextTimer(events[kind], from)
	if err != nil || !ok {
		return math.MaxInt64, err
	}
	return at, nil
}

// commitEvents fires a page of timers in one commit; later reports that some are left for
// another commit.
func (e *Engine) commitEvents(kind int, found []event, now int64) (later bool, err error) {
	pinned := 0
	defer func() {
		for i := range found[:pinned] {
			e.queues.unpin(found[i].queue)
		}
	}()
	for i := range found {
		if found[i].queue, err = e.queues.pin(found[i].timer.User); err != nil {
			return false, err
		}
		pinned++
	}
	c := &eventChange{engine: e, what: events[kind], events: found, now: now, reads: eventReads}
	if err := c.read(); err != nil {
		return false, err
	}
	if err := e.log.CommitUnbounded(c); err != nil {
		return false, err
	}
	return c.later, c.err
}

// eventReads is how many entries the commit of a page reads itself, of queues that have
// changed since the page was read. The other timers are retried.
const eventReads = 64

// eventChange makes entries due, or removes expired ones.
type eventChange struct {
	engine *Engine
	what   storage.Event
	events []event
	now    int64
	commit uint64 // of the snapshot that was read
	reads  int    // how many more entries the commit may read
	later  bool   // some timers are left for another commit
	err    error
}

// read reads the entries of the timers before the commit. The queues are pinned.
func (c *eventChange) read() error {
	snapshot := c.engine.log.Snapshot()
	defer snapshot.Release()
	c.commit = snapshot.Commit
	for i := range c.events {
		ev := &c.events[i]
		for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
			entry, ok, err := snapshot.Entry(index, ev.queue.user, ev.priority, ev.timer.Sequence)
			if err != nil {
				return err
			}
			if ok {
				ev.index, ev.entry = index, entry
				break
			}
		}
	}
	return nil
}

// lookupLocked returns the index and the entry of a timer. What read found is still valid
// if no commit of the queue was published since: unpublished changes are in memory.
func (c *eventChange) lookupLocked(tx *wal.Tx, ev *event) (index storage.Index, entry storage.Entry, ok, known bool) {
	q, seq := ev.queue, ev.timer.Sequence
	if q.published > c.commit {
		if c.reads--; c.reads < 0 {
			return 0, entry, false, false
		}
		var err error
		if index, entry, ok, err = q.lookupLocked(c.engine.store.Reader, tx.Commit-1, ev.priority, seq); err != nil {
			c.err = err
			return 0, entry, false, false
		}
		return index, entry, ok, true
	}
	if index, entry, ok, known = q.stagedLocked(c.commit, seq); !known {
		index, entry, ok = ev.index, ev.entry, ev.index != 0
	}
	return index, entry, ok, true
}

// Records implements [wal.Change]. It returns none.
func (c *eventChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. If the entry was removed, or has another time by now,
// only the timer is removed. If the entry cannot be read, the timer stays.
func (c *eventChange) Stage(tx *wal.Tx) {
	for i := range c.events {
		ev := &c.events[i]
		ev.queue.mu.Lock()
		c.fireLocked(tx, ev)
		ev.queue.mu.Unlock()
	}
}

// OnDurable implements [wal.Change].
func (c *eventChange) OnDurable() {}

func (c *eventChange) fireLocked(tx *wal.Tx, ev *event) {
	e, q, p, seq := c.engine, ev.queue, ev.priority, ev.timer.Sequence
	index, entry, ok, known := c.lookupLocked(tx, ev)
	if !known {
		c.later = true
		return
	}
	expired := entry.Expires != 0 && entry.Expires <= c.now
	if held := q.claimed[seq]; held != nil && c.what == storage.Expiry && expired && entry.Expires == ev.timer.At {
		// The entry is claimed. It is removed with its timer when the claim ends. If the
		// service restarts before that, the timer fires again.
		held.expired = true
		return
	}
	tx.DeleteTimer(c.what, ev.timer)
	switch {
	case !ok:
	case expired && (c.what == storage.Expiry || (index == storage.Delayed && entry.Due == ev.timer.At)):
		e.removeLocked(tx, q, index, p, seq, entry)
		e.counters.expired.Add(1)
	case c.what == storage.Due && index == storage.Delayed && entry.Due == ev.timer.At:
		ready := entry
		ready.Due = 0
		e.moveLocked(tx, q, index, p, seq, entry, ready)
	}
}
