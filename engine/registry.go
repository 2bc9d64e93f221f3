package engine

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// registry holds the queues in use and, up to a bound, those used last. A queue is pinned
// while a change or a reader depends on its in-memory state. Only an unpinned queue is
// evicted from memory; its state is then the one on disk.
type registry struct {
	store  *storage.Store
	seed   maphash.Seed
	shards [64]shard
	// prefetched counts the prefetched entries of all queues.
	prefetched atomic.Int64
}

type shard struct {
	prefetched *atomic.Int64 // the registry's counter
	mu         sync.Mutex
	queues     map[messaging.UserID]*queue
	// idle is the list of unpinned queues, from least recently used (idle.next) to most
	// recently used (idle.prev).
	idle      queue
	idleCount int
	idleMax   int
}

func newRegistry(store *storage.Store, cached int) *registry {
	r := &registry{store: store, seed: maphash.MakeSeed()}
	for i := range r.shards {
		s := &r.shards[i]
		s.prefetched = &r.prefetched
		s.queues = make(map[messaging.UserID]*queue)
		s.idle.prev, s.idle.next = &s.idle, &s.idle
		s.idleMax = max(1, cached/len(r.shards))
	}
	return r
}

func (r *registry) shard(user messaging.UserID) *shard {
	return &r.shards[maphash.String(r.seed, string(user))%uint64(len(r.shards))]
}

// pin returns a user's queue with its state loaded. The caller unpins it.
func (r *registry) pin(user messaging.UserID) (*queue, error) {
	q := r.shard(user).pin(user, false)
	if err := q.load(r.store); err != nil {
		r.unpin(q)
		return nil, err
	}
	return q, nil
}

// pinTransient is pin for a transient use, as in pinAll.
func (r *registry) pinTransient(user messaging.UserID) (*queue, error) {
	q := r.shard(user).pin(user, true)
	if err := q.load(r.store); err != nil {
		r.unpin(q)
		return nil, err
	}
	return q, nil
}

// pinAll returns the queues of many users, in their order. A transient use does not keep a
// queue: one that it loaded is evicted when it is unpinned, unless another use pinned it
// since. So a broadcast neither evicts queues in use nor fills the memory with unused
// ones.
func (r *registry) pinAll(users []messaging.UserID, transient bool) ([]*queue, error) {
	queues := make([]*queue, len(users))
	var cold []*queue
	for i, user := range users {
		queues[i] = r.shard(user).pin(user, transient)
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

// loadAll loads pinned queues in one pass over the disk. A queue that another goroutine
// loads concurrently keeps that state.
func (r *registry) loadAll(cold []*queue) error {
	slices.SortFunc(cold, func(a, b *queue) int { return storage.CompareUsers(a.user, b.user) })
	users := make([]messaging.UserID, len(cold))
	for i, q := range cold {
		users[i] = q.user
	}
	return r.store.QueueStates(users, func(i int, state storage.QueueState) {
		cold[i].mu.Lock()
		defer cold[i].mu.Unlock()
		cold[i].adoptLocked(state)
	})
}

func (r *registry) unpinAll(queues []*queue) {
	for _, q := range queues {
		r.unpin(q)
	}
}

// pinToWait is pin for a caller that may wait long afterwards. A read of the disk grows
// the goroutine's stack, which it keeps. So the read runs on a goroutine that ends;
// otherwise ten thousand waiters would hold that memory.
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

// pinAgain pins a queue that is already pinned.
func (r *registry) pinAgain(q *queue) {
	s := q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	q.pins++
}

func (r *registry) unpin(q *queue) { q.shard.unpin(q) }

func (s *shard) pin(user messaging.UserID, transient bool) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[user]
	switch {
	case q == nil:
		q = &queue{user: user, shard: s, transient: true}
		s.queues[user] = q
	case q.pins == 0:
		s.unlinkLocked(q)
	}
	q.pins++
	q.transient = q.transient && transient
	return q
}

func (s *shard) unpin(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.pins--
	if q.pins > 0 {
		return
	}
	if q.transient {
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

// forgetLocked evicts an unpinned queue from memory.
func (s *shard) forgetLocked(q *queue) {
	delete(s.queues, q.user)
	s.prefetched.Add(-int64(q.prefetchCounted))
}

func (s *shard) unlinkLocked(q *queue) {
	q.prev.next, q.next.prev = q.next, q.prev
	q.prev, q.next = nil, nil
	s.idleCount--
}
