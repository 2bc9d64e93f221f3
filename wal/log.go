package wal

import (
	"cmp"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// Change is one indivisible change of the store. Its methods run on the
// committer, one change after the other, and must be quick: every request
// waits behind them.
type Change interface {
	// Records gives what to append to the log, or nil.
	Records() []Record
	// Stage adds the change's share to the commit. Nothing of it may be shown to
	// anyone before Published.
	Stage(tx *Tx)
	// Published is called when the commit is durable, in the order of Stage and
	// before [Log.Commit] returns; later changes may be staged meanwhile.
	Published()
}

// Tx is what a change may do within its commit.
type Tx struct {
	*storage.Batch
	// Sequence is the sequence of the change's first record, or 0.
	Sequence uint64
	// Last is the last sequence of the change and of those before it: what comes
	// after it in the same commit is above.
	Last uint64
	// Commit is the number of the commit: what was staged in it is durable when
	// a change of it, or of a later one, is published.
	Commit uint64
	log    *Log
}

// AddQueued counts entries that enter (or, negative, leave) queues.
func (tx *Tx) AddQueued(n int64) { tx.log.meta.Queued += n }

// Floor is the lowest sequence that retention has left.
func (tx *Tx) Floor() uint64 { return tx.log.meta.Floor }

// SetFloor says that retention has taken all below seq.
func (tx *Tx) SetFloor(seq uint64) { tx.log.meta.Floor = max(tx.log.meta.Floor, seq) }

// TrimRecord takes the message of a record that is committed already, and
// leaves a stub in its place: the log has no gap, and nobody is given it any
// more.
func (tx *Tx) TrimRecord(seq uint64, record *Record) {
	stub := record.stub()
	tx.log.cache.drop(seq)
	tx.PutRecord(seq, stub.size(), stub.encode)
}

// Config says what a log works on.
type Config struct {
	Store *storage.Store
	// MaxPending bounds how many changes may wait for a commit (default 16384),
	// however quick the disk is; past it, and past what the disk makes durable
	// within half a second, [Log.Commit] answers that the service is overloaded.
	MaxPending int
	// CacheBytes bounds the records that are kept in memory (default 1 MiB).
	CacheBytes int
	// Observe is told of every commit: how many changes it had, its bytes and
	// how long it took to become durable. It must not block; nil is fine.
	Observe func(changes, bytes int, took time.Duration)
	// Early publishes each commit so long before it is written. It breaks the
	// promise, on purpose: a rig that looks for losses must find some with it.
	Early time.Duration
}

// Log is the log of messages.
//
// Invariants:
//
//  1. Only the committer writes meta, gives out sequences and applies batches
//     that hold records; only the publisher publishes, in the same order.
//  2. durable is the last sequence whose commit was fsynced; nothing above it is
//     given to a reader.
//  3. Sequences have no gaps: one that was given out is in the batch that is
//     committed next, or the process has ended.
type Log struct {
	config  Config
	store   *storage.Store
	meta    storage.Meta  // the committer's
	clock   timeIndex     // the committer's
	commits uint64        // the committer's: how many there were
	disk    chan struct{} // has one element while a commit is on its way to the disk
	syncing chan *group   // applied and not yet durable
	finish  func(tx *Tx) (published func())

	durable atomic.Uint64
	floor   atomic.Uint64
	queued  atomic.Int64
	// applying and waiting say when the commit began that the committer applies,
	// and the one whose fsync the publisher waits for; nil for none.
	applying, waiting atomic.Pointer[time.Time]

	mu      sync.Mutex
	work    sync.Cond // signalled when pending gets its first change, or closed is set
	pending *group
	closed  bool
	tail    chan struct{} // closed and replaced when durable moves
	done    chan struct{} // closed when committer and publisher have ended

	crowd *crowd // who waits in Commit
	cache *cache
}

// group is the changes that become durable together.
type group struct {
	changes   []Change
	spans     []span
	published func()        // what finish wants to be called
	done      chan struct{} // closed when the group is durable
	batch     *storage.Batch
	meta      storage.Meta // as of this group
	began     time.Time
}

// span is the sequences of a change's records: the first, 0 where it has none,
// and the last one given out so far.
type span struct{ first, last uint64 }

func newGroup() *group { return &group{done: make(chan struct{})} }

// Open starts the log at what the store recovered. Close it before the store.
func Open(config Config) (*Log, error) {
	if config.MaxPending == 0 {
		config.MaxPending = 16384
	}
	l := &Log{
		config: config, store: config.Store, meta: config.Store.Meta(),
		disk: make(chan struct{}, 1), syncing: make(chan *group), finish: func(*Tx) func() { return func() {} }, pending: newGroup(), tail: make(chan struct{}), done: make(chan struct{}),
		crowd: newCrowd(config.MaxPending),
		cache: newCache(cmp.Or(config.CacheBytes, 1<<20)),
	}
	l.work.L = &l.mu
	last, err := l.store.LastTime()
	if err != nil {
		return nil, err
	}
	l.clock.last = last
	l.durable.Store(l.meta.Last)
	l.floor.Store(l.meta.Floor)
	l.queued.Store(l.meta.Queued)
	go l.committer()
	go l.publisher()
	return l, nil
}

// OnFinish sets what is called on the committer when all changes of a commit
// are staged, to add what they have in common, and what that wants to be called
// when the commit is durable, behind all of its changes. It is set before the
// first change.
func (l *Log) OnFinish(finish func(tx *Tx) (published func())) { l.finish = finish }

// Close commits what waits and ends the goroutines.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.work.Signal()
	l.mu.Unlock()
	<-l.done
	return nil
}

// Commit makes a change durable. It returns when the fsync has ended, or at
// once with an [*messaging.Error] when too much is waiting or the log is
// closing; then nothing of the change has happened. There is no way to call a
// change back: it would not be known whether it is on disk.
func (l *Log) Commit(c Change) error {
	since := time.Now()
	if !l.crowd.enter(since) {
		return overloaded()
	}
	done, err := l.enqueue(c, l.config.MaxPending)
	if err != nil {
		l.crowd.refused()
		return err
	}
	<-done
	l.crowd.leave(since)
	return nil
}

// Insist is Commit without its bound, for the few changes that the service makes
// by itself: they wait for the disk instead of failing when clients keep it busy.
func (l *Log) Insist(c Change) error {
	done, err := l.enqueue(c, math.MaxInt)
	if err != nil {
		return err
	}
	<-done
	return nil
}

// Crowded says, with an error of the contract, that so many changes wait for
// the disk that nothing may be added which is followed by one.
func (l *Log) Crowded() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending.changes) >= l.config.MaxPending {
		return overloaded()
	}
	return nil
}

// Busy says, with an error of the contract, that Commit would refuse a change. It
// is for those who have much to do before they get there.
func (l *Log) Busy() error {
	if l.crowd.full() {
		return overloaded()
	}
	return l.Crowded()
}

// Enqueue hands a change to the committer without waiting for it, and without
// the bound of Commit: it is for what has to follow a change or an answer that
// has happened already, and whose number is bounded by that.
func (l *Log) Enqueue(c Change) error {
	_, err := l.enqueue(c, math.MaxInt)
	return err
}

func (l *Log) enqueue(c Change, limit int) (<-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, messaging.Errorf(messaging.CodeShuttingDown, "the service is stopping")
	}
	g := l.pending
	if len(g.changes) >= limit {
		return nil, overloaded()
	}
	g.changes = append(g.changes, c)
	if len(g.changes) == 1 {
		l.work.Signal()
	}
	return g.done, nil
}

func overloaded() error {
	err := messaging.Errorf(messaging.CodeOverloaded, "too many requests wait for the disk: try again in a second")
	err.RetryAfter = time.Second
	return err
}

// Durable is the last sequence that is on disk. Readers go no further.
func (l *Log) Durable() uint64 { return l.durable.Load() }

// Floor is the lowest sequence that retention has left.
func (l *Log) Floor() uint64 { return l.floor.Load() }

// Queued is how many entries stand in all queues.
func (l *Log) Queued() int64 { return l.queued.Load() }

// Generation counts how often the store was opened.
func (l *Log) Generation() uint64 { return l.store.Meta().Generation }
