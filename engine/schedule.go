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
	// timerPage is how many events are worked off in one commit.
	timerPage = 1024
	// heldExpiry is when an entry that somebody has is looked at again, which has
	// expired meanwhile.
	heldExpiry = time.Minute
	// clockLook is how often the clock is looked at while an event is awaited: it
	// may have been set.
	clockLook = time.Second
)

// events are what happens to entries at their time, in the order in which they
// are worked off: what is due and expires at once is not handed out.
var events = [2]storage.Event{storage.Expiry, storage.Due}

// timers remembers up to where the events of each kind were worked off, because
// what is behind still has to be walked over on disk, and when the next one is.
type timers struct {
	mu   sync.Mutex
	from [2]int64 // no event is before it
	next [2]int64 // none is before it either; math.MaxInt64 when there is none
	news chan struct{}
}

func newTimers() *timers { return &timers{news: make(chan struct{}, 1)} }

// note takes in the earliest events of a commit.
func (t *timers) note(earliest [2]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind, at := range earliest {
		t.from[kind] = min(t.from[kind], at)
		if at < t.next[kind] {
			t.next[kind] = at
			select {
			case t.news <- struct{}{}:
			default:
			}
		}
	}
}

// putTimer adds an event to a commit.
func (e *Engine) putTimer(tx *wal.Tx, what storage.Event, t storage.Timer, p messaging.Priority) {
	tx.PutTimer(what, t, p)
	for kind := range events {
		if events[kind] == what {
			e.earliest[kind] = min(e.earliest[kind], t.At)
		}
	}
}

// Schedule lets messages enter their queues when they are due and removes those
// that expire, until the context ends.
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
		wait := clockLook
		if next != math.MaxInt64 {
			wait = min(wait, max(0, time.UnixMilli(next).Sub(e.now())))
		}
		if !sleepUntil(ctx, time.Now().Add(wait), e.timers.news) {
			return nil
		}
	}
}

// runEvents works off all events of one kind up to now, and says when the next
// one is.
func (e *Engine) runEvents(ctx context.Context, kind int, now int64) (int64, error) {
	for ctx.Err() == nil {
		from, next, ok := e.timers.begin(kind, now)
		if !ok {
			return next, nil
		}
		reached, following, err := e.runPage(kind, from, now)
		if err != nil {
			e.timers.done(kind, from, next) // to be tried again
			if messaging.CodeOf(err) == messaging.CodeShuttingDown {
				return math.MaxInt64, nil
			}
			return 0, err
		}
		e.timers.done(kind, reached, following)
	}
	return math.MaxInt64, nil
}

// runPage works off a page of events. It says up to where there is no other,
// and when the next one is at the earliest.
func (e *Engine) runPage(kind int, from, now int64) (reached, following int64, err error) {
	found, reached, err := e.dueEvents(kind, from, now)
	if err != nil {
		return 0, 0, err
	}
	if len(found) > 0 {
		if err := e.commitEvents(kind, found, now); err != nil {
			return 0, 0, err
		}
	}
	if len(found) == timerPage {
		return reached, reached, nil
	}
	following, err = e.nextEvent(kind, reached)
	return reached, following, err
}

// begin gives from where to read, or says that nothing is due yet. What is
// noted from here on lowers it again.
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

// done says how far the events were worked off, unless something earlier was
// noted meanwhile.
func (t *timers) done(kind int, reached, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from[kind] = min(t.from[kind], reached)
	t.next[kind] = min(t.next[kind], next)
}

// event is one that has come, with its queue, pinned.
type event struct {
	timer    storage.Timer
	priority messaging.Priority
	queue    *queue
}

// dueEvents reads a page of events that have come. reached is the time up to
// which there is no other.
func (e *Engine) dueEvents(kind int, from, now int64) (found []event, reached int64, err error) {
	reached = now
	err = e.store.Timers(events[kind], from, now, func(t storage.Timer, p messaging.Priority) bool {
		found = append(found, event{timer: t, priority: p})
		if len(found) == timerPage {
			reached = t.At
		}
		return len(found) < timerPage
	})
	return found, reached, err
}

func (e *Engine) nextEvent(kind int, from int64) (int64, error) {
	at, ok, err := e.store.NextTimer(events[kind], from)
	if err != nil || !ok {
		return math.MaxInt64, err
	}
	return at, nil
}

// commitEvents works off a page of events in one commit.
func (e *Engine) commitEvents(kind int, found []event, now int64) (err error) {
	pinned := 0
	defer func() {
		for i := range found[:pinned] {
			e.queues.unpin(found[i].queue)
		}
	}()
	for i := range found {
		if found[i].queue, err = e.queues.pin(found[i].timer.User); err != nil {
			return err
		}
		pinned++
	}
	c := &eventChange{engine: e, what: events[kind], events: found, now: now}
	if err := e.log.Insist(c); err != nil {
		return err
	}
	return c.err
}

// eventChange is entries becoming due, or expiring.
type eventChange struct {
	engine *Engine
	what   storage.Event
	events []event
	now    int64
	err    error
}

// Records implements [wal.Change]: there are none.
func (c *eventChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. An event whose entry is not there any more, or
// has another time by now, only goes; one whose entry cannot be read stays.
func (c *eventChange) Stage(tx *wal.Tx) {
	for _, ev := range c.events {
		ev.queue.mu.Lock()
		if err := c.engine.happenLocked(tx, ev, c.what, c.now); err != nil {
			c.err = err
		}
		ev.queue.mu.Unlock()
	}
}

// Published implements [wal.Change].
func (c *eventChange) Published() {}

func (e *Engine) happenLocked(tx *wal.Tx, ev event, what storage.Event, now int64) error {
	q, p, seq := ev.queue, ev.priority, ev.timer.Sequence
	shelf, entry, ok, err := e.whereLocked(q, p, seq)
	if err != nil {
		return err
	}
	tx.DeleteTimer(what, ev.timer)
	expired := entry.Expires != 0 && entry.Expires <= now
	switch {
	case !ok:
	case what == storage.Expiry && expired && q.out[seq] != nil:
		// Somebody has it, and it goes when they give it back; where the service
		// is started anew before, this finds it.
		later := storage.Timer{At: now + heldExpiry.Milliseconds(), Sequence: seq, User: q.user}
		e.putTimer(tx, storage.Expiry, later, p)
	case expired && (what == storage.Expiry || (shelf == storage.Delayed && entry.Due == ev.timer.At)):
		e.removeLocked(tx, q, shelf, p, seq, entry)
		e.counters.expired.Add(1)
	case what == storage.Due && shelf == storage.Delayed && entry.Due == ev.timer.At:
		ready := entry
		ready.Due = 0
		e.moveLocked(tx, q, shelf, p, seq, entry, ready)
	}
	return nil
}
