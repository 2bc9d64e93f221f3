package engine

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// registry holds the queues that are in use and, up to a bound, those that were
// used last. A queue is pinned while a change or a reader depends on what it
// has in memory; only one that nobody pins is forgotten, and then its state is
// what is on disk.
type registry struct {
	store  *storage.Store
	seed   maphash.Seed
	shards [64]shard
	// ahead counts what the queues know ahead.
	ahead atomic.Int64
}

type shard struct {
	ahead  *atomic.Int64 // the registry's
	mu     sync.Mutex
	queues map[messaging.UserID]*queue
	// idle is the list of queues that nobody pins: idle.next was used longest
	// ago, idle.prev last.
	idle      queue
	idleCount int
	idleMax   int
}

func newRegistry(store *storage.Store, cached int) *registry {
	r := &registry{store: store, seed: maphash.MakeSeed()}
	for i := range r.shards {
		s := &r.shards[i]
		s.ahead = &r.ahead
		s.queues = make(map[messaging.UserID]*queue)
		s.idle.prev, s.idle.next = &s.idle, &s.idle
		s.idleMax = max(1, cached/len(r.shards))
	}
	return r
}

func (r *registry) shard(user messaging.UserID) *shard {
	return &r.shards[maphash.String(r.seed, string(user))%uint64(len(r.shards))]
}

// pin gives a user's queue with its state loaded. Whoever pins unpins.
func (r *registry) pin(user messaging.UserID) (*queue, error) {
	q := r.shard(user).pin(user, false)
	if err := q.load(r.store); err != nil {
		r.unpin(q)
		return nil, err
	}
	return q, nil
}

// pinAll gives the queues of many users, in their order. Those of passing use that
// were not in memory are forgotten again when they are unpinned, unless somebody
// else wants them meanwhile: a broadcast must not drive out what is in use, nor
// fill the memory with what is not.
func (r *registry) pinAll(users []messaging.UserID, passing bool) ([]*queue, error) {
	queues := make([]*queue, len(users))
	var cold []*queue
	for i, user := range users {
		queues[i] = r.shard(user).pin(user, passing)
		if !queues[i].isLoaded() {
			cold = append(cold, queues[i])
		}
	}
	if err := r.loadAll(cold); err != nil {
		r.unpinAll(queues)
		return nil, err
	}
	return queues, nil
}

// loadAll loads queues in one walk over the disk. They are pinned: one that
// somebody else loads meanwhile stays as that has made it.
func (r *registry) loadAll(cold []*queue) error {
	slices.SortFunc(cold, func(a, b *queue) int { return storage.CompareUsers(a.user, b.user) })
	users := make([]messaging.UserID, len(cold))
	for i, q := range cold {
		users[i] = q.user
	}
	return r.store.Users(users, func(i int, state storage.User) {
		cold[i].mu.Lock()
		defer cold[i].mu.Unlock()
		cold[i].becomeLocked(state)
	})
}

func (r *registry) unpinAll(queues []*queue) {
	for _, q := range queues {
		r.unpin(q)
	}
}

// pinToWait is pin for who may wait for long. Reading the disk takes a deep
// stack, which a goroutine keeps: it is done on one that ends, or ten thousand
// who wait would hold that memory.
func (r *registry) pinToWait(user messaging.UserID) (q *queue, err error) {
	q = r.shard(user).pin(user, false)
	if q.isLoaded() {
		return q, nil
	}
	var loading sync.WaitGroup
	loading.Go(func() { err = q.load(r.store) })
	loading.Wait()
	if err != nil {
		r.unpin(q)
		return nil, err
	}
	return q, nil
}

// pinAgain pins a queue that is pinned already.
func (r *registry) pinAgain(q *queue) {
	s := q.home
	s.mu.Lock()
	defer s.mu.Unlock()
	q.pins++
}

func (r *registry) unpin(q *queue) { q.home.unpin(q) }

func (s *shard) pin(user messaging.UserID, passing bool) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[user]
	switch {
	case q == nil:
		q = &queue{user: user, home: s, passing: true}
		s.queues[user] = q
	case q.pins == 0:
		s.unlinkLocked(q)
	}
	q.pins++
	q.passing = q.passing && passing
	return q
}

func (s *shard) unpin(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.pins--
	if q.pins > 0 {
		return
	}
	if q.passing {
		s.forgetLocked(q)
		return
	}
	q.prev, q.next = s.idle.prev, &s.idle
	q.prev.next, q.next.prev = q, q
	s.idleCount++
	if s.idleCount > s.idleMax {
		oldest := s.idle.next
		s.unlinkLocked(oldest)
		s.forgetLocked(oldest)
	}
}

// forgetLocked lets a queue go that nobody pins, so that nobody else has it.
func (s *shard) forgetLocked(q *queue) {
	delete(s.queues, q.user)
	s.ahead.Add(-int64(q.aheadCounted))
}

func (s *shard) unlinkLocked(q *queue) {
	q.prev.next, q.next.prev = q.next, q.prev
	q.prev, q.next = nil, nil
	s.idleCount--
}
