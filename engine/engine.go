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

// Config configures an engine. Zero values take the defaults named.
type Config struct {
	Store *storage.Store
	Log   *wal.Log
	// QueueMax is how many messages a user's queue holds (default 100,000).
	QueueMax uint64
	// Retention is how long the log keeps a message (default 30 days).
	Retention time.Duration
	// DrainPosition returns the position below which the drain has finished with every
	// message. Nil means that nothing drains and every message counts as settled.
	DrainPosition func() messaging.Position
	// Held returns the first sequence that replays have yet to read, or end if that is
	// lower. Retention by age keeps messages from there on; early trim on a full disk does
	// not. Nil means that there are no replays.
	Held func(end uint64) uint64
	// MinFree is the free space in bytes below which sends are refused, and Free measures
	// it. A nil Free turns the check off.
	MinFree uint64
	Free    func() (uint64, error)
	// Now is the wall clock (default time.Now).
	Now func() time.Time
	// IdempotencyWindow is how long an idempotency key returns the result of its first
	// call (default 24 h).
	IdempotencyWindow time.Duration
	// MaxDeliveries is the number of leased deliveries after which a message that is not
	// acknowledged becomes a dead letter; 0 means never.
	MaxDeliveries uint32
	// DeadLetterRetention is how long dead letters are kept; 0 means for ever.
	DeadLetterRetention time.Duration
	// Weights are the weights of the priorities; nil is strict priority.
	Weights *Weights
	// MaxLeases bounds the leased messages of all queues (default 1,000,000), and
	// MaxLeased those of one queue (default 20,000).
	MaxLeases, MaxLeased int
	// RetryBackoff is the pause before a nacked message, or one whose lease ended, comes
	// back after its third delivery. It doubles with each further delivery, up to 5
	// minutes. 0 means no pause.
	RetryBackoff time.Duration
	// CachedQueues bounds how many idle queues stay in memory (default 65,536).
	CachedQueues int
	Logger       *slog.Logger
}

// Weights is how many messages of each priority are delivered in turn. All of them are
// above 0.
type Weights [messaging.Priorities]int

// Engine holds the queues of all users. Its methods are safe for concurrent use.
type Engine struct {
	config         Config
	store          *storage.Store
	log            *wal.Log
	logger         *slog.Logger
	queues         *registry
	clock          clockGuard
	diskFull       atomic.Bool
	diskFree       atomic.Uint64
	fanouts        chan struct{} // wakes Fanout
	counters       counters
	pendingFanouts fanoutJobs
	trimmer        *trimmer
	leases         *leases
	timers         *timers
	exhausted      exhausted
	letters        *DeadLetters
	clears         clears
	inFlight       inFlightCalls
	receipts       receiptKey
	// scans bounds the number of concurrent scans.
	scans       chan struct{}
	waiting     atomic.Int64
	granting    atomic.Int64
	closing     chan struct{}
	stopWaiting func()

	// Owned by the committer: the queues whose state this commit changes, and the earliest
	// timers that it adds.
	dirty    []*queue
	earliest [2]int64
}

type counters struct {
	accepted, taken, leased, acknowledged, redelivered, evicted, expired, cleared, trimmedByAge, trimmedEarly, duplicates atomic.Uint64
}

// scansPerCPU is how many scans may run concurrently per processor.
const scansPerCPU = 4

// Open starts an engine on an open log. It removes the receivers of large broadcasts that
// were never committed.
func Open(config Config) (*Engine, error) {
	config.QueueMax = cmp.Or(config.QueueMax, 100_000)
	config.Retention = cmp.Or(config.Retention, 30*24*time.Hour)
	config.CachedQueues = cmp.Or(config.CachedQueues, 1<<16)
	config.IdempotencyWindow = cmp.Or(config.IdempotencyWindow, 24*time.Hour)
	config.MaxLeases = cmp.Or(config.MaxLeases, 1_000_000)
	config.MaxLeased = cmp.Or(config.MaxLeased, 20_000)
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
		scans: make(chan struct{}, scansPerCPU*runtime.GOMAXPROCS(0)), closing: make(chan struct{}),
	}
	e.exhausted.changed = make(chan struct{}, 1)
	e.trimmer = newTrimmer(e)
	e.clears.changed, e.clears.step = make(chan struct{}, 1), newWaitLock()
	e.stopWaiting = sync.OnceFunc(func() { close(e.closing) })
	e.receipts = newReceiptKey()
	e.log.PreCommit(e.preCommit)
	e.clock.reset(config.Now(), time.Now())
	for _, open := range []func() error{e.openLetters, e.dropStages, e.findClears, e.catchUp, e.findFanouts} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Send makes a message durable and puts it into its receiver's queue.
func (e *Engine) Send(d messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error) {
	return e.idempotent(o, func(key *idempotencyStage) (messaging.SendResult, error) {
		if err := e.admit(); err != nil {
			return messaging.SendResult{}, err
		}
		id, now, err := e.stamp()
		if err != nil {
			return messaging.SendResult{}, err
		}
		c := &sendChange{engine: e, key: key, result: messaging.SendResult{ID: id, Recipients: 1, Count: 1}}
		if c.records[0].Message, c.entry, err = e.prepare(d, id, now); err != nil {
			return messaging.SendResult{}, err
		}
		if c.queue, err = e.queues.pin(d.Receiver); err != nil {
			return messaging.SendResult{}, internal(err)
		}
		defer e.queues.unpin(c.queue)
		if err := e.log.Commit(c); err != nil {
			return messaging.SendResult{}, err
		}
		e.countAccepted(1)
		return c.result, nil
	})
}

// countAccepted counts messages that were accepted. A broadcast is one for each
// receiver, as it is where messages are persisted, queued and trimmed.
func (e *Engine) countAccepted(messages int) {
	e.counters.accepted.Add(uint64(messages)) //nolint:gosec // not negative
}

// stamp returns the id and the time of a new message.
func (e *Engine) stamp() (messaging.MessageID, time.Time, error) {
	now := e.config.Now()
	id, err := uuid.NewV7AtTime(now)
	if err != nil {
		return id, now, messaging.Internal(err)
	}
	return id, now, nil
}

// latest is how much earlier than the end of its retention a message must be due.
const latest = 24 * time.Hour

// prepare returns the message of a draft, and its queue entry. It checks times and makes
// them absolute on the engine's clock, which timers use.
func (e *Engine) prepare(d messaging.Draft, id messaging.MessageID, now time.Time) (messaging.Message, storage.Entry, error) {
	m := messaging.Message{
		ID: id, CreatedAt: now, Conversation: d.Conversation, Receiver: messaging.Receiver{User: d.Receiver},
		Priority: d.Priority, Defaulted: d.Defaulted, NoPersist: d.NoPersist, Body: d.Body,
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

// entryOf returns the entry of a message that is enqueued at a time.
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

// itemError sets which message of a batch an error is about.
func itemError(err error, index int) error {
	if e, ok := errors.AsType[*messaging.Error](err); ok {
		e.Item = index + 1
	}
	return err
}

// internal returns errors of the contract unchanged and wraps all others.
func internal(err error) error {
	if err == nil || messaging.CodeOf(err) != messaging.CodeInternal {
		return err
	}
	return messaging.Internal(err)
}

// Stats returns the engine's part of the statistics.
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
		TrimmedByAge: e.counters.trimmedByAge.Load(),
		TrimmedEarly: e.counters.trimmedEarly.Load(),
		Duplicates:   e.counters.duplicates.Load(),
		Queued:       e.log.Queued(),
		Leases:       e.leases.count(),
		Waiting:      int(e.waiting.Load()),
		Fanouts:      e.pendingFanouts.count(),
	}
}

// sendChange appends one message and enqueues it.
type sendChange struct {
	engine  *Engine
	key     *idempotencyStage
	queue   *queue
	records [1]wal.Record
	entry   storage.Entry
	result  messaging.SendResult
}

// Records implements [wal.Change].
func (c *sendChange) Records() []wal.Record { return c.records[:] }

// Stage implements [wal.Change].
func (c *sendChange) Stage(tx *wal.Tx) {
	c.result.Sequence = tx.Sequence
	c.engine.enqueue(tx, c.queue, c.records[0].Message.Priority, tx.Sequence, c.entry, true)
	c.key.put(tx, c.result)
}

// OnDurable implements [wal.Change].
func (c *sendChange) OnDurable() {}
