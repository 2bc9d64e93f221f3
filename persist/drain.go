package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// Config says what a drain works on and how hard. Zero values take the
// defaults named.
type Config struct {
	Source Source
	Ledger Ledger
	Sink   Sink
	// BatchSize (500) and BatchBytes (1 MiB) bound a batch; Linger (200 ms) is
	// how long an incomplete one waits for more; Concurrency (4) is how many are
	// on their way at once.
	BatchSize   int
	BatchBytes  int
	Linger      time.Duration
	Concurrency int
	// MaxAttempts (5) is how often a message is tried that the backend refuses
	// without saying that it is for good.
	MaxAttempts int
	// MaxBackoff (30 s) bounds the pause between tries.
	MaxBackoff time.Duration
	// Evidence is what is known of the backend; nil begins with nothing. What
	// sends to the same backend shares it.
	Evidence *Evidence
	// Until ends a run when all up to and including this sequence is settled; 0
	// is never.
	Until uint64
	// Grace (20 s) is how long what is on its way may take when the drain stops.
	Grace  time.Duration
	Logger *slog.Logger
}

// Drain carries the log to the backend. Make it with [New], run it with
// [Drain.Run]; the other methods may be called at any time.
type Drain struct {
	config   Config
	logger   *slog.Logger
	counters counters
	position atomic.Pointer[messaging.Position]
	oldest   atomic.Int64 // Unix ms of the oldest message not settled; 0 for none
	waiting  atomic.Bool  // the backend is out of order
}

type counters struct {
	persisted, refused, unreached, deadLetters atomic.Uint64
	failures                                   [len(verdictNames)]atomic.Uint64
}

// New prepares a drain at the position that the ledger has.
func New(config Config) (*Drain, error) {
	config.BatchSize = cmp.Or(config.BatchSize, 500)
	config.BatchBytes = cmp.Or(config.BatchBytes, 1<<20)
	config.Concurrency = cmp.Or(config.Concurrency, 4)
	config.MaxAttempts = cmp.Or(config.MaxAttempts, 5)
	config.MaxBackoff = cmp.Or(config.MaxBackoff, 30*time.Second)
	config.Grace = cmp.Or(config.Grace, 20*time.Second)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Evidence == nil {
		config.Evidence = new(Evidence)
	}
	d := &Drain{config: config, logger: config.Logger}
	position, err := config.Ledger.Position()
	if err != nil {
		return nil, err
	}
	if position.Sequence == 0 {
		position.Sequence = config.Source.Floor()
	}
	d.position.Store(&position)
	return d, nil
}

// Position is the lowest place in the log that is not settled.
func (d *Drain) Position() messaging.Position { return *d.position.Load() }

// Lag is how much the backend has yet to get: in messages, counted by
// sequences, and as the age of the oldest.
func (d *Drain) Lag(now time.Time) (messages uint64, age time.Duration) {
	if end := d.config.Source.Durable() + 1; end > d.Position().Sequence {
		messages = end - d.Position().Sequence
	}
	if oldest := d.oldest.Load(); oldest != 0 && messages > 0 {
		age = max(0, now.Sub(time.UnixMilli(oldest)))
	}
	return messages, age
}

// Waiting says whether the drain waits for a backend that is out of order.
func (d *Drain) Waiting() bool { return d.waiting.Load() }

// Stats gives the drain's part of the statistics.
func (d *Drain) Stats() messaging.Stats {
	return messaging.Stats{
		Persisted: d.counters.persisted.Load(),
		Refused:   d.counters.refused.Load(),
		Unreached: d.counters.unreached.Load(),
	}
}

// Failures counts the answers of one verdict; for [Accounted] the messages that
// such answers had errors for.
func (d *Drain) Failures(v Verdict) uint64 { return d.counters.failures[v].Load() }

const (
	// readPage and readBytes bound one read of the log; loadedMax is how many
	// bytes of messages wait in memory for a batch.
	readPage  = 2048
	readBytes = 4 << 20
	loadedMax = 8 << 20
	// saveInterval is how often the position is saved while it moves.
	saveInterval = 200 * time.Millisecond
)

// run is the state of one Run. It belongs to Run's goroutine alone.
type run struct {
	*Drain
	window   window
	lanes    *lanes
	limits   limits
	evidence *Evidence
	flying   int
	results  chan *flight
	tail     chan error // a Wait for more of the log ended
	tailing  bool
	tails    sync.WaitGroup
	// outage counts failures in a row; until is when to try again, asked until
	// when the backend wants to be left alone.
	outage       int
	until, asked time.Time
	saved        messaging.Position
	savedAt      time.Time
	landing      bool   // the run ends: nothing more is sent
	complaint    string // what was logged last about the backend
	// What was logged and has not succeeded since: it is not said again.
	saveComplaint, buryComplaint, readComplaint bool
}

// Run drains until the context ends, and then lets what is on its way arrive
// and saves the position. It may be called again, not twice at a time.
func (d *Drain) Run(ctx context.Context) error {
	r := &run{
		Drain: d, lanes: newLanes(), evidence: d.config.Evidence, limits: newLimits(d.config.BatchSize, d.config.Concurrency),
		results: make(chan *flight, d.config.Concurrency), tail: make(chan error, 1), saved: d.Position(),
	}
	r.window.next = r.saved
	return r.loop(ctx)
}

func (r *run) loop(ctx context.Context) error {
	// Requests outlive ctx by the grace, so that an answer on its way counts.
	flights, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	tails, stopTail := context.WithCancel(ctx)
	defer func() {
		stopTail()
		r.tails.Wait()
	}()
	for {
		now := time.Now()
		sickUntil := r.lanes.recover(now)
		more, err := r.read(now)
		if err != nil {
			return errors.Join(err, r.land(flights, cancel))
		}
		wake := r.dispatch(flights, now)
		r.save(now)
		if r.config.Until > 0 && r.Position().Sequence > r.config.Until {
			return r.land(flights, cancel)
		}
		soon := time.Time{}
		if more {
			soon = now // what there is to do comes first, a stop above all
		}
		if err := r.await(ctx, tails, flights, earliest(wake, sickUntil, r.nextSave(), soon)); err != nil {
			if ctx.Err() != nil {
				return r.land(flights, cancel)
			}
			return errors.Join(err, r.land(flights, cancel))
		}
	}
}

// earliest gives the first of the moments that are not zero.
func earliest(moments ...time.Time) (first time.Time) {
	for _, m := range moments {
		if !m.IsZero() && (first.IsZero() || m.Before(first)) {
			first = m
		}
	}
	return first
}

// await blocks until something happened: an answer, more of the log, or a
// moment. An error ends the run.
func (r *run) await(ctx, tails, flights context.Context, moment time.Time) error {
	var timer <-chan time.Time
	if !moment.IsZero() {
		t := time.NewTimer(max(0, time.Until(moment)))
		defer t.Stop()
		timer = t.C
	}
	// What was appended since the log was read makes Wait return at once.
	if !r.tailing && r.hasRoom() {
		r.tailing = true
		from := r.window.next
		r.tails.Go(func() { r.tail <- r.config.Source.Wait(tails, from) })
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case f := <-r.results:
		r.flying--
		return r.arrived(flights, f)
	case err := <-r.tail:
		r.tailing = false
		return err
	case <-timer:
		return nil
	}
}

// land waits for what is on its way, at most for the grace, and saves the
// position.
func (r *run) land(ctx context.Context, cancel context.CancelFunc) error {
	grace := time.AfterFunc(r.config.Grace, cancel)
	defer grace.Stop()
	var errs []error
	r.landing = true
	for r.flying > 0 {
		f := <-r.results
		r.flying--
		errs = append(errs, r.arrived(ctx, f))
	}
	r.publishPosition()
	if r.window.position() != r.saved {
		errs = append(errs, r.config.Ledger.SavePosition(r.window.position()))
	}
	return errors.Join(errs...)
}

// read reads the log ahead as far as there is room, or until a page has nothing
// for the backend; more says that there is something behind that.
func (r *run) read(now time.Time) (more bool, err error) {
	for r.hasRoom() {
		page, next, err := r.config.Source.Read(r.window.next, min(readPage, maxWindow-r.window.len()), readBytes)
		if err != nil {
			return false, fmt.Errorf("read the log at %d: %w", r.window.next.Sequence, err)
		}
		for i := range page {
			r.take(&page[i], now)
		}
		moved := next != r.window.next
		r.window.next = next
		if len(page) == 0 {
			return moved, nil
		}
	}
	return false, nil
}

// hasRoom says whether more of the log may be read ahead.
func (r *run) hasRoom() bool {
	return !r.window.full() && r.lanes.loaded < loadedMax && r.lanes.readyItems < 4*r.limits.maxBatch
}

// take puts a message into the window and, if the backend has yet to get it,
// into its lane.
func (r *run) take(m *messaging.Message, now time.Time) {
	it := &item{position: m.Position, created: m.CreatedAt, readAt: now}
	r.window.push(it)
	if m.Stored {
		it.settled = true
		return
	}
	it.message, it.bytes = m, len(m.Body)+messaging.JSONOverhead
	r.lanes.add(it, m.Conversation)
}

// publishPosition shows how far the drain came.
func (r *run) publishPosition() {
	p := r.window.position()
	r.position.Store(&p)
	if oldest := r.window.oldest(); oldest.IsZero() {
		r.oldest.Store(0)
	} else {
		r.oldest.Store(oldest.UnixMilli())
	}
}

// nextSave is when a position that moved wants to be saved.
func (r *run) nextSave() time.Time {
	if r.window.position() == r.saved {
		return time.Time{}
	}
	return r.savedAt.Add(saveInterval)
}

// save makes the position durable now and then. A full disk only makes it a
// little older; after a crash more is sent again.
func (r *run) save(now time.Time) {
	r.publishPosition()
	p := r.window.position()
	if p == r.saved || now.Sub(r.savedAt) < saveInterval {
		return
	}
	r.savedAt = now
	if err := r.config.Ledger.SavePosition(p); err != nil {
		if !r.saveComplaint {
			r.logger.Error("the drain's position could not be saved; it goes on, and a restart would send some messages again", "error", err)
		}
		r.saveComplaint = true
		return
	}
	r.saved, r.saveComplaint = p, false
}
