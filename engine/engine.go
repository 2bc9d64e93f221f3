package engine

import (
	"cmp"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Config says what an engine works on. Zero values take the defaults named.
type Config struct {
	Store *storage.Store
	Log   *wal.Log
	// QueueMax is how many messages a user's queue holds (default 100,000).
	QueueMax uint64
	// Retention is how long the log keeps a message (default 30 days).
	Retention time.Duration
	// Settled gives the position below which the drain is done with everything;
	// nil says that nothing drains and all counts as settled.
	Settled func() messaging.Position
	// MinFree is the free space in bytes below which sends are refused, and
	// Free measures it; a nil Free turns the watch off.
	MinFree uint64
	Free    func() (uint64, error)
	// Now is the wall clock (default time.Now).
	Now func() time.Time
	// IdempotencyWindow is for how long an idempotency key stands for what was
	// first sent with it (default 24 h).
	IdempotencyWindow time.Duration
	// MaxDeliveries is after how many deliveries under a lease a message that
	// nobody acknowledged becomes a dead letter; 0 is never.
	MaxDeliveries uint32
	// DeadLetterRetention is for how long dead letters are kept; 0 is for ever.
	DeadLetterRetention time.Duration
	// Weights serves priorities by weight; nil serves them strictly.
	Weights *Weights
	// MaxLeases bounds the messages that are under a lease (default 1,000,000).
	MaxLeases int
	// CachedQueues bounds how many idle queues stay in memory (default 65,536).
	CachedQueues int
	Logger       *slog.Logger
}

// Weights says how many messages of each priority are handed out in turn. All
// of them are above 0.
type Weights [messaging.Priorities]int

// Engine holds the queues of all users. Its methods are safe for concurrent use.
type Engine struct {
	config   Config
	store    *storage.Store
	log      *wal.Log
	logger   *slog.Logger
	queues   *registry
	clock    clockGuard
	diskFull atomic.Bool
	diskFree atomic.Uint64
	fanouts  chan struct{} // tells Fanout that there is something to do
	counters counters
	unfanned unfinished
	requeues requeues
	trimming sync.Mutex // one run of retention at a time, of either kind
	relief   relief
	leases   *leases
	timers   *timers
	burials  burials
	onces    onces
	nonce    uint64 // of this run's receipts
	// looks bounds how many pages are read at a time.
	looks       chan struct{}
	waiting     atomic.Int64
	granting    atomic.Int64
	closing     chan struct{}
	stopWaiting func()

	// The committer's: whose counts the commit changes, and the earliest events
	// that it brings.
	dirty    []touched
	earliest [2]int64
}

type counters struct {
	accepted, taken, leased, acknowledged, redelivered, evicted, expired, cleared, retained, relieved, duplicates atomic.Uint64
}

// looksPerCPU is how many pages may be read at a time for each processor.
const looksPerCPU = 4

// Open starts an engine on an open log, and removes what large broadcasts left
// that were never committed.
func Open(config Config) (*Engine, error) {
	config.QueueMax = cmp.Or(config.QueueMax, 100_000)
	config.Retention = cmp.Or(config.Retention, 30*24*time.Hour)
	config.CachedQueues = cmp.Or(config.CachedQueues, 1<<16)
	config.IdempotencyWindow = cmp.Or(config.IdempotencyWindow, 24*time.Hour)
	config.MaxLeases = cmp.Or(config.MaxLeases, 1_000_000)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		config: config, store: config.Store, log: config.Log, logger: config.Logger,
		queues:  newRegistry(config.Store, config.CachedQueues),
		fanouts: make(chan struct{}, 1), leases: newLeases(config.MaxLeases), timers: newTimers(), earliest: noTimers(),
		looks: make(chan struct{}, looksPerCPU*runtime.GOMAXPROCS(0)), closing: make(chan struct{}),
	}
	e.burials.news, e.burials.letters = make(chan struct{}, 1), make(chan struct{}, 1)
	e.relief.news = make(chan struct{}, 1)
	e.stopWaiting = sync.OnceFunc(func() { close(e.closing) })
	e.nonce = newNonce()
	e.log.OnFinish(e.finish)
	e.clock.reset(config.Now(), time.Now())
	if err := e.dropStages(); err != nil {
		return nil, err
	}
	return e, e.findFanouts()
}

// Send makes a message durable and puts it into its receiver's queue.
func (e *Engine) Send(d messaging.Draft, o messaging.Once) (messaging.Receipt, error) {
	return e.once(o, func(once *onceStage) (messaging.Receipt, error) {
		if err := e.admit(); err != nil {
			return messaging.Receipt{}, err
		}
		id, now, err := e.stamp()
		if err != nil {
			return messaging.Receipt{}, err
		}
		c := &sendChange{engine: e, once: once, receipt: messaging.Receipt{ID: id, Recipients: 1, Count: 1}}
		if c.records[0].Message, c.entry, err = e.prepare(d, id, now); err != nil {
			return messaging.Receipt{}, err
		}
		if c.queue, err = e.queues.pin(d.Receiver); err != nil {
			return messaging.Receipt{}, internal(err)
		}
		defer e.queues.unpin(c.queue)
		if err := e.log.Commit(c); err != nil {
			return messaging.Receipt{}, err
		}
		e.counters.accepted.Add(1)
		return c.receipt, nil
	})
}

// stamp gives what a command brings with it: its id and its time.
func (e *Engine) stamp() (messaging.MessageID, time.Time, error) {
	now := e.config.Now()
	id, err := uuid.NewV7AtTime(now)
	if err != nil {
		return id, now, messaging.Internal(err)
	}
	return id, now, nil
}

// latest is how much sooner than the retention a message must be due.
const latest = 24 * time.Hour

// prepare makes a message of a draft, and the entry that it gets in a queue.
// Times are checked and made absolute by the clock that events go by.
func (e *Engine) prepare(d messaging.Draft, id messaging.MessageID, now time.Time) (messaging.Message, storage.Entry, error) {
	m := messaging.Message{
		ID: id, CreatedAt: now, Conversation: d.Conversation, Receiver: messaging.Receiver{User: d.Receiver},
		Priority: d.Priority, Defaults: d.Defaults, Stored: d.Stored, Body: d.Body,
	}
	if !d.Due.Given() && !d.Expires.Given() {
		return m, storage.Entry{}, nil
	}
	clock := e.now()
	m.DeliverAt, m.ExpiresAt = d.Due.On(clock), d.Expires.On(clock)
	if furthest := max(0, e.config.Retention-latest); m.DeliverAt.After(clock.Add(furthest)) && m.DeliverAt.After(clock) {
		return m, storage.Entry{}, messaging.FieldErrorf(messaging.CodeInvalidField, "deliver_at",
			"a message can be due at most %s from now: the retention less a day (see MESSAGE_RETENTION_DAYS)", furthest)
	}
	if d.Expires.Given() && d.Due.Given() && !m.ExpiresAt.After(m.DeliverAt) {
		return m, storage.Entry{}, messaging.FieldErrorf(messaging.CodeInvalidField, "expires_at", "the message would expire before it is due")
	}
	return m, entryOf(&m, clock), nil
}

// entryOf gives the entry of a message that enters a queue at a time.
func entryOf(m *messaging.Message, clock time.Time) storage.Entry {
	var entry storage.Entry
	if m.DeliverAt.After(clock) {
		entry.Due = m.DeliverAt.UnixMilli()
	}
	if !m.ExpiresAt.IsZero() {
		entry.Expires = max(1, m.ExpiresAt.UnixMilli())
	}
	return entry
}

// itemError says which message of a batch an error is about.
func itemError(err error, index int) error {
	if e, ok := errors.AsType[*messaging.Error](err); ok {
		e.Item = index + 1
	}
	return err
}

// internal passes errors of the contract on and wraps all others.
func internal(err error) error {
	if err == nil || messaging.CodeOf(err) != messaging.CodeInternal {
		return err
	}
	return messaging.Internal(err)
}

// Stats gives the engine's part of the statistics.
func (e *Engine) Stats() messaging.Stats {
	return messaging.Stats{
		Accepted:     e.counters.accepted.Load(),
		Taken:        e.counters.taken.Load(),
		Leased:       e.counters.leased.Load(),
		Acknowledged: e.counters.acknowledged.Load(),
		Redelivered:  e.counters.redelivered.Load(),
		Evicted:      e.counters.evicted.Load(),
		Expired:      e.counters.expired.Load(),
		Cleared:      e.counters.cleared.Load(),
		Retained:     e.counters.retained.Load(),
		Relieved:     e.counters.relieved.Load(),
		Duplicates:   e.counters.duplicates.Load(),
		Queued:       e.log.Queued(),
		Leases:       e.leases.count(),
		Waiting:      int(e.waiting.Load()),
		Fanouts:      e.unfanned.count(),
	}
}

// sendChange is one message entering one queue.
type sendChange struct {
	engine  *Engine
	once    *onceStage
	queue   *queue
	records [1]wal.Record
	entry   storage.Entry
	receipt messaging.Receipt
}

// Records implements [wal.Change].
func (c *sendChange) Records() []wal.Record { return c.records[:] }

// Stage implements [wal.Change].
func (c *sendChange) Stage(tx *wal.Tx) {
	c.receipt.Sequence = tx.Sequence
	c.engine.enter(tx, c.queue, c.records[0].Message.Priority, tx.Sequence, c.entry, true)
	c.once.put(tx, c.receipt)
}

// Published implements [wal.Change].
func (c *sendChange) Published() {}
