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

// Change is one atomic change of the store. Its methods run on the committer, one change
// at a time. They must be quick, because every request waits for them.
type Change interface {
	// Records returns the records to append to the log, or nil.
	Records() []Record
	// Stage adds the change's writes to the commit. No reader may see any of them before
	// OnDurable.
	Stage(tx *Tx)
	// OnDurable is called when the commit is durable, in the order of Stage and before
	// [Log.Commit] returns. Later changes may be staged at the same time.
	OnDurable()
}

// Tx is a change's view of its commit: puts, deletes, and facts about the log. It can
// neither apply the commit nor write its meta record.
type Tx struct {
	*storage.Writer
	// Sequence is the sequence of the change's first record, or 0.
	Sequence uint64
	// Last is the last sequence of this change and of the changes before it. Later records
	// of the same commit have higher sequences.
	Last uint64
	// Commit is the number of the commit. Its writes are durable when a change of this
	// commit, or of a later one, is published.
	Commit uint64
	log    *Log
}

// AddQueued adds n to the number of entries in all queues. It is negative for entries that
// leave.
func (tx *Tx) AddQueued(n int64) { tx.log.meta.Queued += n }

// FirstSequence returns the lowest sequence that retention has kept.
func (tx *Tx) FirstSequence() uint64 { return tx.log.meta.FirstSequence }

// SetFirstSequence records that retention has removed every record below seq.
func (tx *Tx) SetFirstSequence(seq uint64) {
	tx.log.meta.FirstSequence = max(tx.log.meta.FirstSequence, seq)
}

// TrimRecord replaces a committed record by a tombstone. The log keeps its sequence, so it
// has no gap, and no reader gets the message again.
func (tx *Tx) TrimRecord(seq uint64, record *Record) {
	tombstone := record.tombstone()
	tx.log.cache.drop(seq)
	tx.PutRecord(seq, tombstone.size(), tombstone.encode)
}

// Config configures a log.
type Config struct {
	Store *storage.Store
	// MaxPending bounds how many changes may wait for a commit (default 16384), however
	// fast the disk is. Above it, and above what the disk makes durable within half a
	// second, [Log.Commit] returns that the service is overloaded.
	MaxPending int
	// CacheBytes bounds the records kept in memory (default 1 MiB).
	CacheBytes int
	// Observe is called for every commit with its number of changes, its bytes and the
	// time it took to become durable. It must not block. It may be nil.
	Observe func(changes, bytes int, took time.Duration)
	// Early publishes each commit this long before it is written. It breaks durability on
	// purpose: a test that looks for lost messages must find some with it.
	Early time.Duration
}

// Log is the log of messages.
//
// Invariants:
//
//  1. Only the committer writes meta, assigns sequences and applies batches that
//     hold records. Only the publisher publishes, in the same order.
//  2. durable is the last sequence whose commit was fsynced. Readers get nothing
//     above it.
//  3. Sequences have no gaps: an assigned sequence is in the next batch that is
//     committed, or the process has ended.
type Log struct {
	config    Config
	store     *storage.Store
	meta      storage.Meta  // owned by the committer
	drained   uint64        // owned by the committer: the sequence of the drain's position
	clock     timeIndex     // owned by the committer
	commits   uint64        // owned by the committer: the number of commits so far
	disk      chan struct{} // has one element while a commit is being made durable
	syncing   chan *group   // applied, not yet durable
	preCommit func(tx *Tx) (onDurable func())

	durable       atomic.Uint64
	firstSequence atomic.Uint64
	queued        atomic.Int64
	trimmed       atomic.Uint64
	// applying is when the commit began that the committer applies now. waiting is when
	// the commit began whose fsync the publisher waits for. nil means none.
	applying, waiting atomic.Pointer[time.Time]

	mu      sync.Mutex
	work    sync.Cond // signalled when pending gets its first change, or closed is set
	pending *group
	closed  bool
	ending  sync.Once
	tail    chan struct{} // closed and replaced when durable moves
	done    chan struct{} // closed when committer and publisher have ended

	admission *admission // bounds the callers of Commit
	cache     *cache
	snapshots snapshots
}

// group is the changes that become durable together.
type group struct {
	changes   []Change
	spans     []span
	onDurable func()        // called after OnDurable of every change; from preCommit
	done      chan struct{} // closed when the group is durable
	batch     *storage.Batch
	meta      storage.Meta // after this group
	number    uint64       // of this commit
	began     time.Time
}

// span is the range of sequences of a change's records: the first, 0 if it has none, and
// the last sequence assigned so far.
type span struct{ first, last uint64 }

func newGroup() *group { return &group{done: make(chan struct{})} }

// Open starts the log from the state that the store recovered. Close the log before the
// store.
func Open(config Config) (*Log, error) {
	if config.MaxPending == 0 {
		config.MaxPending = 16384
	}
	l := &Log{
		config: config, store: config.Store, meta: config.Store.Meta(),
		disk: make(chan struct{}, 1), syncing: make(chan *group), preCommit: func(*Tx) func() { return func() {} },
		pending: newGroup(), tail: make(chan struct{}), done: make(chan struct{}),
		admission: newAdmission(config.MaxPending),
		cache:     newCache(cmp.Or(config.CacheBytes, 1<<20)), snapshots: newSnapshots(),
	}
	l.work.L = &l.mu
	last, err := l.store.LastTime()
	if err != nil {
		return nil, err
	}
	l.clock.last = last
	if err := l.openTrimmed(); err != nil {
		return nil, err
	}
	l.durable.Store(l.meta.Last)
	l.firstSequence.Store(l.meta.FirstSequence)
	l.queued.Store(l.meta.Queued)
	l.trimmed.Store(l.meta.Trimmed)
	l.snapshots.publish(l.snapshots.take(l.store, 0, &l.meta))
	go l.committer()
	go l.publisher()
	return l, nil
}

// PreCommit sets a function that the committer calls when all changes of a commit are
// staged. It stages what the changes have in common. The function that it returns is
// called when the commit is durable, after OnDurable of every change. Set it before the
// first change.
func (l *Log) PreCommit(preCommit func(tx *Tx) (onDurable func())) { l.preCommit = preCommit }

// Close commits the pending changes and ends the goroutines.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.work.Signal()
	l.mu.Unlock()
	<-l.done
	l.ending.Do(l.snapshots.end)
	return nil
}

// Commit makes a change durable. It returns after the fsync. It returns an
// [*messaging.Error] at once if too many changes are waiting or the log is closing; then
// the change has had no effect. A change cannot be cancelled, because it would be unknown
// whether it is on disk.
func (l *Log) Commit(c Change) error {
	since := time.Now()
	if !l.admission.admit(since) {
		return overloaded()
	}
	done, err := l.enqueue(c, l.config.MaxPending)
	if err != nil {
		l.admission.cancel()
		return err
	}
	<-done
	l.admission.leave(since)
	return nil
}

// CommitUnbounded is Commit without its bounds. It is for the few changes that the service
// makes by itself: they wait for the disk instead of failing when clients keep it busy.
func (l *Log) CommitUnbounded(c Change) error {
	done, err := l.enqueue(c, math.MaxInt)
	if err != nil {
		return err
	}
	<-done
	return nil
}

// QueueFull returns an overloaded error if MaxPending changes are waiting. Callers check
// it before work that a [Log.CommitAsync] follows.
func (l *Log) QueueFull() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending.changes) >= l.config.MaxPending {
		return overloaded()
	}
	return nil
}

// Busy returns an overloaded error if Commit would refuse a change now. Callers check it
// before expensive work that ends in a commit.
func (l *Log) Busy() error {
	if l.admission.full() {
		return overloaded()
	}
	return l.QueueFull()
}

// CommitAsync hands a change to the committer without waiting, and without the bounds of
// Commit. It is for changes that must follow a change or a response that has already
// happened, which bounds their number.
func (l *Log) CommitAsync(c Change) error {
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

// Durable returns the last sequence that is on disk. Readers go no further.
func (l *Log) Durable() uint64 { return l.durable.Load() }

// FirstSequence returns the lowest sequence that retention has kept.
func (l *Log) FirstSequence() uint64 { return l.firstSequence.Load() }

// Queued returns the number of entries in all queues.
func (l *Log) Queued() int64 { return l.queued.Load() }

// Generation returns how often the store was opened.
func (l *Log) Generation() uint64 { return l.store.Meta().Generation }
