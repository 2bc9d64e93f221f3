package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
)

// backlog counts the messages that the backend has not received, by sequences of the log.
// A message with `"persist": false` counts too, and a broadcast counts once.
type backlog struct {
	position      messaging.Position // saved; no message below it waits
	firstSequence uint64             // of the log
	end           uint64             // one after the last sequence
	trimmed       uint64             // at or after the position
}

// newBacklog returns the backlog of a log. Without a saved position the drain starts at
// the first sequence, and messages trimmed before it are not counted.
func newBacklog(position messaging.Position, first, end, trimmed uint64) backlog {
	if position.Sequence == 0 {
		position = messaging.Position{Sequence: first}
		trimmed -= min(first-1, trimmed)
	}
	return backlog{position: position, firstSequence: first, end: end, trimmed: trimmed}
}

// from returns the sequence at which the drain resumes.
func (b backlog) from() uint64 { return max(b.position.Sequence, b.firstSequence) }

// waiting returns the number of messages that the backend will receive.
func (b backlog) waiting() uint64 { return b.end - min(b.position.Sequence+b.gone(), b.end) }

// gone returns the number of messages that were trimmed before the backend received them.
func (b backlog) gone() uint64 { return b.trimmed }

// openBacklog reads the backlog before anything is drained or sent. It saves a position in
// a new store, so that all later messages wait for the backend, even if it is off.
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

// backlogAt returns the backlog for a saved position of the drain.
func (m *Main) backlogAt(position messaging.Position) backlog {
	return newBacklog(position, m.log.FirstSequence(), m.log.Durable()+1, m.log.Trimmed())
}

// logBacklog logs one line with the number of messages that waited for the backend when
// the store was opened, and of those that were trimmed while they waited.
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
	waiting, gone := plural(b.waiting(), "message waits", "messages wait"), plural(b.gone(), "was", "were")
	if drains {
		return fmt.Sprintf("%s, %s trimmed while the drain was off or by a full disk; the drain resumes at %d", waiting, gone, b.from())
	}
	return fmt.Sprintf("the drain is off: %s for DJANGO_API_URL, %s trimmed", waiting, gone)
}

// plural returns a number with its noun or verb in the matching form.
func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// oldestPlace is the position from which the oldest waiting message is searched. All
// messages before it were trimmed.
type oldestPlace struct {
	mu   sync.Mutex
	next messaging.Position
}

// drainStats adds the state and the lag of the drain.
func (m *Main) drainStats(s *messaging.Stats) {
	if m.drain == nil {
		s.Drain = messaging.DrainOff
		b := m.backlogAt(m.recovered.position) // the position does not move while the drain is off
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

// leaveTrimmed excludes messages from the lag that were trimmed while the drain was off
// and that it has not passed yet. It counts from the saved position, which is slightly
// before the drain's.
func (m *Main) leaveTrimmed(s *messaging.Stats) {
	if m.log.Trimmed() == 0 {
		return
	}
	if position, err := m.store.Position(); err == nil {
		s.LagMessages = min(s.LagMessages, m.backlogAt(position).waiting())
	}
}

// oldestWaiting returns the age of the oldest waiting message while the drain is off. It
// returns 0 if no waiting message can be read.
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
