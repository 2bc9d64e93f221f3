package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
)

// backlog is what the backend has not got, counted by sequences of the log:
// `"persist": false` counts too, and a broadcast counts once.
type backlog struct {
	position      messaging.Position // saved; nothing below it waits
	firstSequence uint64             // the first sequence that the log still has
	end           uint64             // one after the last
	trimmed       uint64             // from the position on
}

// newBacklog is what waits in a log. Where no position was saved the drain begins
// at the first sequence; what was trimmed before is not counted.
func newBacklog(position messaging.Position, first, end, trimmed uint64) backlog {
	if position.Sequence == 0 {
		position = messaging.Position{Sequence: first}
		trimmed -= min(first-1, trimmed)
	}
	return backlog{position: position, firstSequence: first, end: end, trimmed: trimmed}
}

// from is the first sequence that waits. The drain goes on there.
func (b backlog) from() uint64 { return max(b.position.Sequence, b.firstSequence) }

// waiting is how many messages the backend will get.
func (b backlog) waiting() uint64 { return b.end - min(b.position.Sequence+b.gone(), b.end) }

// gone is how many it will not get: they waited, and were trimmed.
func (b backlog) gone() uint64 { return b.trimmed }

// openBacklog reads what waits, before anything drains or is sent. A new store
// gets its position at the first start, so that everything after it waits for
// the backend, whether there is one yet or not.
func (m *Main) openBacklog() error {
	position, err := m.store.Position()
	if err != nil {
		return err
	}
	m.recovered = m.backlogAt(position)
	if position.Sequence > 0 {
		return nil
	}
	return m.engine.DeadLetters().SaveProgress(messaging.Progress{Position: &m.recovered.position})
}

// backlogAt is what waits while the drain is at this position, which is saved.
func (m *Main) backlogAt(position messaging.Position) backlog {
	return newBacklog(position, m.log.FirstSequence(), m.log.Durable()+1, m.log.Trimmed())
}

// logBacklog says in one line what waited for the backend when the store was
// opened, and what waited before and was trimmed.
func (m *Main) logBacklog(ctx context.Context) {
	b := m.recovered
	if b.waiting() == 0 && b.gone() == 0 {
		return
	}
	level := slog.LevelInfo
	if b.gone() > 0 {
		level = slog.LevelWarn
	}
	m.Logger.Log(ctx, level, b.line(m.drain != nil), "waiting", b.waiting(), "gone", b.gone(), "sequence", b.from()) //nolint:sloglint // the line counts in words
}

func (b backlog) line(drains bool) string {
	waiting, gone := plural(b.waiting(), "message waits", "messages wait"), b.gone()
	if drains {
		return fmt.Sprintf("%s, %s gone (trimmed while the drain was off or by a full disk), going on from %d",
			waiting, plural(gone, "is", "are"), b.from())
	}
	return fmt.Sprintf("the drain is off: %s for DJANGO_API_URL, %s gone", waiting, plural(gone, "that waited is", "that waited are"))
}

// plural counts something in words.
func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// oldestPlace is where the first message that waits is looked for: what is before it
// was trimmed.
type oldestPlace struct {
	mu   sync.Mutex
	next messaging.Position
}

// drainStats adds the state of the drain, and how far it is behind.
func (m *Main) drainStats(s *messaging.Stats) {
	if m.drain == nil {
		s.Drain = messaging.DrainOff
		b := m.backlogAt(m.recovered.position) // which stays while nothing drains
		if s.LagMessages = b.waiting(); s.LagMessages > 0 {
			s.LagTime = m.oldestWaiting(b)
		}
		return
	}
	s.Drain = messaging.DrainRunning
	if m.drain.Waiting() {
		s.Drain = messaging.DrainWaiting
	}
	d := m.drain.Stats()
	s.Persisted, s.Refused, s.Unreached = d.Persisted, d.Refused, d.Unreached
	s.LagMessages, s.LagTime = m.drain.Lag(time.Now())
	m.leaveTrimmed(s)
}

// leaveTrimmed takes out of the lag what was trimmed while nothing drained and the
// drain has not passed yet. It is counted from the saved position, which is a
// little before the drain's.
func (m *Main) leaveTrimmed(s *messaging.Stats) {
	if m.log.Trimmed() == 0 {
		return
	}
	if position, err := m.store.Position(); err == nil {
		s.LagMessages = min(s.LagMessages, m.backlogAt(position).waiting())
	}
}

// oldestWaiting is the age of the first message that waits while nothing drains; 0
// where it was trimmed since.
func (m *Main) oldestWaiting(b backlog) time.Duration {
	m.oldest.mu.Lock()
	defer m.oldest.mu.Unlock()
	next := &m.oldest.next
	if next.Sequence < b.from() {
		*next = messaging.Position{Sequence: b.from()}
	}
	for next.Sequence < b.end {
		page, after, err := m.log.Read(*next, 1, 1)
		if err != nil {
			return 0
		}
		if len(page) > 0 {
			return max(0, time.Since(page[0].CreatedAt))
		}
		*next = after // tombstones
	}
	return 0
}
