package engine

import (
	"cmp"
	"log/slog"
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
	// CachedQueues bounds how many idle queues stay in memory (default 65,536).
	CachedQueues int
	Logger       *slog.Logger
}

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
	dirty    []*queue // the committer's: whose counts the commit changes
	unfanned unfinished
}

type counters struct {
	accepted, taken, evicted, retained atomic.Uint64
}

// Open starts an engine on an open log, and removes what large broadcasts left
// that were never committed.
func Open(config Config) (*Engine, error) {
	config.QueueMax = cmp.Or(config.QueueMax, 100_000)
	config.Retention = cmp.Or(config.Retention, 30*24*time.Hour)
	config.CachedQueues = cmp.Or(config.CachedQueues, 1<<16)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		config: config, store: config.Store, log: config.Log, logger: config.Logger,
		queues:  newRegistry(config.Store, config.CachedQueues),
		fanouts: make(chan struct{}, 1),
	}
	e.log.OnFinish(e.putUsers)
	e.clock.reset(config.Now(), time.Now())
	if err := e.dropStages(); err != nil {
		return nil, err
	}
	return e, e.findFanouts()
}

// Send makes a message durable and puts it into its receiver's queue.
func (e *Engine) Send(d messaging.Draft) (messaging.Receipt, error) {
	if err := e.admit(); err != nil {
		return messaging.Receipt{}, err
	}
	id, now, err := e.stamp()
	if err != nil {
		return messaging.Receipt{}, err
	}
	q, err := e.queues.pin(d.Receiver)
	if err != nil {
		return messaging.Receipt{}, internal(err)
	}
	c := &sendChange{engine: e, queue: q, record: wal.Record{Message: messageOf(d, id, now)}}
	if err := e.log.Commit(c); err != nil {
		e.queues.unpin(q)
		return messaging.Receipt{}, err
	}
	e.counters.accepted.Add(1)
	return messaging.Receipt{ID: id, Sequence: c.sequence, Recipients: 1}, nil
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

func messageOf(d messaging.Draft, id messaging.MessageID, now time.Time) messaging.Message {
	return messaging.Message{
		ID: id, CreatedAt: now, Conversation: d.Conversation, Receiver: messaging.Receiver{User: d.Receiver},
		Priority: d.Priority, Defaults: d.Defaults, Stored: d.Stored, Body: d.Body,
	}
}

// internal passes errors of the contract on and wraps all others.
func internal(err error) error {
	if messaging.CodeOf(err) != messaging.CodeInternal {
		return err
	}
	return messaging.Internal(err)
}

// Stats gives the engine's part of the statistics.
func (e *Engine) Stats() messaging.Stats {
	return messaging.Stats{
		Accepted: e.counters.accepted.Load(),
		Taken:    e.counters.taken.Load(),
		Evicted:  e.counters.evicted.Load(),
		Retained: e.counters.retained.Load(),
		Queued:   e.log.Queued(),
	}
}

// sendChange is one message entering one queue.
type sendChange struct {
	engine   *Engine
	queue    *queue
	record   wal.Record
	sequence uint64
	commit   uint64
}

func (c *sendChange) Record() *wal.Record { return &c.record }

func (c *sendChange) Stage(tx *wal.Tx) {
	c.sequence, c.commit = tx.Sequence, tx.Commit
	c.engine.enter(tx, c.queue, c.record.Message.Priority, tx.Sequence, storage.Entry{})
}

func (c *sendChange) Published() {
	c.queue.published(c.commit)
	c.engine.queues.unpin(c.queue)
}
