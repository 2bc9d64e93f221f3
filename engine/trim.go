package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/wal"
)

const (
	// retentionRun bounds how many records one run reads, and so how many one range delete
	// covers.
	retentionRun = 1 << 20
	// longestPause and shortestPause bound the pause between runs.
	longestPause  = time.Minute
	shortestPause = 100 * time.Millisecond
)

// trimmer removes messages from the log, under one of two policies: messages older than
// the retention time ([Engine.Retention]) and, on a full disk, messages that are settled
// and in no queue ([Engine.EarlyRetention]).
//
// It reads a page of records and their queue entries outside of the commit, and removes
// them by one change, which reads nothing. Records at the front of the log are removed by
// raising the first sequence. A record after the first one that stays is replaced by a
// tombstone, so that sequences have no gaps. When that record is removed, the first
// sequence moves past the tombstones. At the end of a run, one range delete removes the
// records below the first sequence; after a crash before it, the next run does.
type trimmer struct {
	engine *Engine
	// undeliverableIn returns the sequences in a range with undeliverable dead letters. A
	// redrive needs their records.
	undeliverableIn func(from, to uint64) (map[uint64]bool, error)
	// commit makes a change durable.
	commit func(c wal.Change) error

	running waitLock  // one run at a time, of either policy
	age     agePolicy // under running
	early   earlyTrim // under running, except changed

	journal   entryJournal
	reentries reentries
}

func newTrimmer(e *Engine) *trimmer {
	t := &trimmer{engine: e, commit: e.log.CommitUnbounded, running: newWaitLock()}
	t.undeliverableIn = func(from, to uint64) (map[uint64]bool, error) { return e.letters.undeliverableIn(from, to) }
	t.age.trimmer, t.early.trimmer = t, t
	t.early.changed = make(chan struct{}, 1)
	return t
}

// Retention removes messages older than the retention time, until the context ends. It
// stops before the drain's position, a replay's position and an unfinished broadcast.
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
		for more := true; more && ctx.Err() == nil; {
			var err error
			if _, more, err = e.trimmer.byAge(ctx); err != nil {
				return fmt.Errorf("retention: %w", err)
			}
		}
	}
}

// Trim is one run of retention. It returns how many messages it removed.
func (e *Engine) Trim(ctx context.Context) (uint64, error) {
	messages, _, err := e.trimmer.byAge(ctx)
	return messages, err
}

// trimLimit returns the first sequence that no policy may trim.
func (t *trimmer) trimLimit() uint64 {
	e := t.engine
	end := e.log.Durable() + 1
	if e.config.DrainPosition != nil {
		end = min(end, e.config.DrainPosition().Sequence)
	}
	return e.pendingFanouts.lowest(end)
}

// byAge is one run of retention; more reports that the run reached its bound before the
// end.
func (t *trimmer) byAge(ctx context.Context) (messages uint64, more bool, err error) {
	t.running.lock()
	defer t.running.unlock()
	e, a := t.engine, &t.age
	now, steady := e.clock.read(e.config.Now(), time.Now())
	if e.clock.jumped() {
		e.logger.WarnContext(ctx, "the clock was set: retention pauses until it has run steadily for ten minutes")
	}
	if !steady {
		return 0, false, nil
	}
	first := e.log.FirstSequence()
	a.begin(first)
	cutoff := now.Add(-e.config.Retention).UnixMilli()
	expired, err := e.log.ExpiredBefore(a.cursor, cutoff, now.UnixMilli(), retentionRun)
	if err != nil {
		return 0, false, err
	}
	more = expired == a.cursor+retentionRun && expired <= a.limit()
	r := &trimRun{trimmer: t, policy: a}
	err = a.run(ctx, r, expired)
	e.counters.trimmedByAge.Add(r.messages)
	if messaging.CodeOf(err) == messaging.CodeShuttingDown {
		return r.messages, false, nil
	}
	if err != nil {
		return r.messages, false, err
	}
	return r.messages, more && !a.full, t.end(first, a.front(), min(cutoff, a.frontTime()))
}

// end ends a run after which first is the first sequence. before is the first sequence
// before the run.
func (t *trimmer) end(before, first uint64, timeUpTo int64) error {
	if first <= before {
		return nil
	}
	err := t.commit(&trimEnd{trimmer: t, firstSequence: first, timeUpTo: timeUpTo})
	if messaging.CodeOf(err) == messaging.CodeShuttingDown {
		return nil
	}
	return err
}
