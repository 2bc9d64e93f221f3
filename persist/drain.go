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

// Config configures a drain. Zero values select the defaults named below.
type Config struct {
	Source Source
	Store  ProgressStore
	Sink   Sink
	// BatchSize (500) and BatchBytes (1 MiB) bound a batch. Linger (200 ms) is how long
	// an incomplete batch waits for more messages. Concurrency (4) is the maximum
	// number of batches in flight.
	BatchSize   int
	BatchBytes  int
	Linger      time.Duration
	Concurrency int
	// MaxAttempts (5) is how often a message is tried when the backend refuses it
	// without calling the error permanent.
	MaxAttempts int
	// MaxBackoff (30 s) bounds the pause between tries.
	MaxBackoff time.Duration
	// Evidence records the last success of the backend; nil starts without evidence.
	// The drain and the jobs of one backend share it.
	Evidence *Evidence
	// Until ends a run when everything up to and including this sequence is settled; 0
	// means never.
	Until uint64
	// Filter selects the messages for the backend; nil selects all. The drain skips the
	// others.
	Filter func(m *messaging.Message) bool
	// Grace (20 s) is how long batches in flight may take after the drain is told to
	// stop.
	Grace  time.Duration
	Logger *slog.Logger
}

// Drain sends the log to the backend. Create it with [New] and run it with [Drain.Run].
// The other methods may be called at any time.
type Drain struct {
	config   Config
	logger   *slog.Logger
	counters counters
	position atomic.Pointer[messaging.Position]
	gone     atomic.Uint64 // sequences trimmed before they were settled
	oldest   atomic.Int64  // creation time of the oldest unsettled message in Unix ms; 0 for none
	waiting  atomic.Bool   // an outage: the backend takes no messages
	saved    messaging.Position
}

type counters struct {
	persisted, refused, unreached, deadLetters atomic.Uint64
	failures                                   [len(classNames)]atomic.Uint64
}

// New returns a drain at the saved position, or at the first sequence of the log if
// retention has trimmed past that position.
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
	saved, err := config.Store.Position()
	if err != nil {
		return nil, err
	}
	saved.Sequence = max(1, saved.Sequence) // 0 means that no position is saved: the log begins at 1
	position := saved
	if first := d.firstSequence(); position.Sequence < first {
		d.gone.Store(first - position.Sequence)
		position = messaging.Position{Sequence: first}
	}
	d.saved = saved
	d.position.Store(&position)
	return d, nil
}

// firstSequence returns the first sequence that can be drained.
func (d *Drain) firstSequence() uint64 {
	first := d.config.Source.FirstSequence()
	if d.config.Until > 0 {
		first = min(first, d.config.Until+1)
	}
	return first
}

// Gone returns how many sequences retention trimmed before they were settled: those
// between the saved position and the first sequence of the log when the drain was
// created, and those found since.
func (d *Drain) Gone() uint64 { return d.gone.Load() }

// Position returns the lowest position in the log that is not settled.
func (d *Drain) Position() messaging.Position { return *d.position.Load() }

// Lag returns how far the backend is behind: the number of sequences that are not
// settled and the age of the oldest message among them.
func (d *Drain) Lag(now time.Time) (messages uint64, age time.Duration) {
	from := max(d.Position().Sequence, d.config.Source.FirstSequence()) // sequences trimmed while no drain was running do not count
	if end := d.config.Source.Durable() + 1; end > from {
		messages = end - from
	}
	if oldest := d.oldest.Load(); oldest != 0 && messages > 0 {
		age = max(0, now.Sub(time.UnixMilli(oldest)))
	}
	return messages, age
}

// Waiting reports whether the drain waits for the end of an outage of the backend.
func (d *Drain) Waiting() bool { return d.waiting.Load() }

// Stats returns the drain's part of the statistics.
func (d *Drain) Stats() messaging.Stats {
	return messaging.Stats{
		Persisted: d.counters.persisted.Load(),
		Refused:   d.counters.refused.Load(),
		Unreached: d.counters.unreached.Load(),
	}
}

// Failures returns how many responses of a class there were. For [Accounted] it returns
// how many messages had an error in such responses.
func (d *Drain) Failures(c Class) uint64 { return d.counters.failures[c].Load() }

const (
	// readPageMessages and readPageBytes bound one read of the log. maxLoadedBytes
	// bounds the messages in memory that wait for a batch.
	readPageMessages = 2048
	readPageBytes    = 4 << 20
	maxLoadedBytes   = 8 << 20
	// saveInterval is the minimum time between two saves of the position.
	saveInterval = 200 * time.Millisecond
)

// run is the state of one call of Run. Only Run's goroutine accesses it.
type run struct {
	*Drain
	window   window
	lanes    *lanes
	limits   limits
	evidence *Evidence
	inFlight int // number of batches in flight
	results  chan *inFlightBatch
	tail     chan error // receives when Source.Wait returns
	tailing  bool
	tails    sync.WaitGroup
	// outageFailures counts consecutive failures. pausedUntil is the time of the next
	// try. requestedUntil is the end of the pause that the backend asked for.
	outageFailures              int
	pausedUntil, requestedUntil time.Time
	saved                       messaging.Position
	savedAt                     time.Time
	goneBefore                  uint64 // value of Gone at the start of the run
	stopping                    bool   // the run is ending: nothing more is sent
	lastReported                string // the last report about the backend in the log
	letterLog                   letterLog
	// trimmed is the range of sequences that were missing when they were read again.
	trimmed struct{ from, to uint64 }
	// These are set when a failure is logged and cleared by the next success, so a
	// repeated failure is logged once.
	saveReported, deadReported, readReported bool
}

// Run drains until ctx ends. It then waits for the batches in flight and saves the
// position. Run may be called again after it returns, but not concurrently.
func (d *Drain) Run(ctx context.Context) error {
	r := &run{
		Drain: d, lanes: newLanes(), evidence: d.config.Evidence, limits: newLimits(d.config.BatchSize, d.config.Concurrency),
		results: make(chan *inFlightBatch, d.config.Concurrency), tail: make(chan error, 1), saved: d.saved, goneBefore: d.Gone(),
	}
	r.window.next = d.Position()
	defer func() { d.saved = r.saved }()
	return r.loop(ctx)
}

func (r *run) loop(ctx context.Context) error {
	// Requests outlive ctx by the grace period, so that the responses in flight count.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	tails, stopTail := context.WithCancel(ctx)
	defer func() {
		stopTail()
		r.tails.Wait()
	}()
	for {
		now := time.Now()
		awake := r.lanes.wake(now)
		more, err := r.read(now)
		if err != nil {
			return errors.Join(err, r.finish(requests, cancel))
		}
		wake := r.dispatch(requests, now)
		r.save(now)
		r.letterLog.flush(r.logger, now, false)
		if r.config.Until > 0 && r.Position().Sequence > r.config.Until {
			return r.finish(requests, cancel)
		}
		soon := time.Time{}
		if more {
			soon = now // events come first, above all a stop
		}
		if err := r.await(ctx, tails, requests, earliest(wake, awake, r.nextSave(), r.letterLog.due(), soon)); err != nil {
			if ctx.Err() != nil {
				return r.finish(requests, cancel)
			}
			return errors.Join(err, r.finish(requests, cancel))
		}
	}
}

// earliest returns the earliest of the moments that are not zero.
func earliest(moments ...time.Time) (first time.Time) {
	for _, m := range moments {
		if !m.IsZero() && (first.IsZero() || m.Before(first)) {
			first = m
		}
	}
	return first
}

// await blocks until a response arrives, the log grows or the moment is reached. An
// error ends the run.
func (r *run) await(ctx, tails, requests context.Context, moment time.Time) error {
	var timer <-chan time.Time
	if !moment.IsZero() {
		t := time.NewTimer(max(0, time.Until(moment)))
		defer t.Stop()
		timer = t.C
	}
	// Wait returns at once if the log has grown since it was read.
	if !r.tailing && r.hasRoom() {
		r.tailing = true
		from := r.window.next
		r.tails.Go(func() { r.tail <- r.config.Source.Wait(tails, from) })
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case b := <-r.results:
		r.inFlight--
		r.handleResponse(requests, b)
		return nil
	case err := <-r.tail:
		r.tailing = false
		return err
	case <-timer:
		return nil
	}
}

// finish waits for the batches in flight, at most for the grace period, and saves the
// position.
func (r *run) finish(ctx context.Context, cancel context.CancelFunc) error {
	grace := time.AfterFunc(r.config.Grace, cancel)
	defer grace.Stop()
	r.stopping = true
	for r.inFlight > 0 {
		b := <-r.results
		r.inFlight--
		r.handleResponse(ctx, b)
	}
	r.letterLog.flush(r.logger, time.Now(), true)
	r.publishPosition()
	if r.window.position() == r.saved {
		return nil
	}
	err := r.config.Store.SaveProgress(r.progress())
	if err == nil {
		r.saved = r.window.position()
	}
	return err
}

// read reads ahead in the log while there is room, or until a page has no message for
// the backend. more reports that the log continues after that page.
func (r *run) read(now time.Time) (more bool, err error) {
	for r.hasRoom() {
		page, next, err := r.config.Source.Read(r.window.next, min(readPageMessages, maxWindow-r.window.len()), readPageBytes)
		if err != nil {
			return false, fmt.Errorf("read the log at %d: %w", r.window.next.Sequence, err)
		}
		moved := next != r.window.next
		if r.takePage(page, next, now) == 0 {
			return moved, nil
		}
	}
	return false, nil
}

// takePage adds a page to the window. It marks the sequences that the page skips as
// trimmed. It returns how many messages of the page are for the backend.
func (r *run) takePage(page []messaging.Message, next messaging.Position, now time.Time) (wanted int) {
	from := r.window.next
	for i := range page {
		m := &page[i]
		r.window.markTrimmed(from, m.Position.Sequence)
		from = messaging.Position{Sequence: m.Position.Sequence + 1}
		if r.config.Filter != nil {
			if !r.config.Filter(m) {
				continue
			}
			one := *m // a copy, so that the item does not keep the whole page in memory
			m = &one
		}
		r.take(m, now)
		wanted++
	}
	r.window.markTrimmed(from, next.Sequence)
	r.window.next = next
	return wanted
}

// hasRoom reports whether the drain may read further ahead.
func (r *run) hasRoom() bool {
	return !r.window.full() && r.lanes.loadedBytes < maxLoadedBytes && r.lanes.readyItems < 4*r.limits.maxBatch
}

// take adds a message to the window and, if the backend does not have it yet, to its
// lane.
func (r *run) take(m *messaging.Message, now time.Time) {
	it := &item{position: m.Position, created: m.CreatedAt, readAt: now}
	r.window.push(it)
	if m.NoPersist {
		it.settled = true
		return
	}
	it.setMessage(m)
	r.lanes.add(it, m.Conversation)
}

// publishPosition makes the position and the counters visible to other goroutines.
func (r *run) publishPosition() {
	p := r.window.position()
	r.position.Store(&p)
	r.gone.Store(r.goneBefore + r.window.passed())
	if oldest := r.window.oldest(); oldest.IsZero() {
		r.oldest.Store(0)
	} else {
		r.oldest.Store(oldest.UnixMilli())
	}
}

// progress returns the position in the form that a commit stores.
func (r *run) progress() messaging.Progress {
	r.publishPosition()
	p := r.window.position()
	return messaging.Progress{Position: &p}
}

// nextSave returns when the position must be saved next; zero if it has not moved.
func (r *run) nextSave() time.Time {
	if r.window.position() == r.saved {
		return time.Time{}
	}
	return r.savedAt.Add(saveInterval)
}

// save makes the position durable once per interval. If the disk is full, the saved
// position only becomes older, and a restart after a crash sends more messages again.
func (r *run) save(now time.Time) {
	r.publishPosition()
	p := r.window.position()
	if p == r.saved || now.Sub(r.savedAt) < saveInterval {
		return
	}
	r.savedAt = now
	if err := r.config.Store.SaveProgress(r.progress()); err != nil {
		if !r.saveReported {
			r.logger.Error("the drain's position could not be saved; the drain continues, and a restart would send some messages again", "error", err)
		}
		r.saveReported = true
		return
	}
	r.saved, r.saveReported = p, false
}
