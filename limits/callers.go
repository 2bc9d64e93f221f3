package limits

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/stayafrica/messaging"
)

// Bounds are the limits of one caller. 0 means no limit.
type Bounds struct {
	RequestsPerSecond                    float64
	Connections, LongPolls, Leases, Jobs int
	BodyBytes                            int64
}

// Callers holds what each caller with limits of its own uses. It is safe for concurrent
// use.
//
// It keeps at most maxShares callers that use nothing at the moment, because their token
// buckets must survive between requests.
type Callers struct {
	mu     sync.Mutex
	shares map[string]*Share
}

// maxShares bounds the memory of Callers.
const maxShares = 1 << 16

// NewCallers returns an empty Callers.
func NewCallers() *Callers { return &Callers{shares: make(map[string]*Share)} }

// Share is what one caller uses. Its methods are safe for concurrent use. A nil Share has
// no limits.
type Share struct {
	requests *rate.Limiter // nil for no limit
	memory   *Budget       // nil for no limit

	mu                             sync.Mutex
	bounds                         Bounds
	used                           time.Time // of the last request
	connections, longPolls, leases count
	jobs                           []string // ids; the ended ones are removed at the next start of one
}

// count is a number of things that a caller holds. limit 0 means none. The lock of its
// share guards it.
type count struct{ n, limit int }

// Of returns the share of a caller, or nil for a caller without limits. Bounds that differ
// from those of the last call replace them.
func (c *Callers) Of(caller string, b Bounds) *Share {
	if b == (Bounds{}) {
		return nil
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shares[caller]
	if s == nil {
		c.shrinkLocked(now)
		s = &Share{}
		c.shares[caller] = s
	}
	s.set(b, now)
	return s
}

// shrinkLocked makes room for a caller: it drops callers that use nothing, those first
// that it meets, because a caller that is dropped too early only gets a full bucket.
func (c *Callers) shrinkLocked(now time.Time) {
	const tries = 64
	if len(c.shares) < maxShares {
		return
	}
	n := 0
	for caller, s := range c.shares {
		if s.isIdle(now) {
			delete(c.shares, caller)
		}
		if n++; n == tries {
			return
		}
	}
}

// idleShare is the time after the last request from which a share may be dropped. A
// bucket is full after a second.
const idleShare = 2 * time.Second

func (s *Share) isIdle(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections.n == 0 && s.longPolls.n == 0 && s.leases.n == 0 && len(s.jobs) == 0 && (s.memory == nil || s.memory.Used() == 0) && now.Sub(s.used) >= idleShare
}

// set sets the bounds.
func (s *Share) set(b Bounds, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = now
	if s.bounds == b {
		return
	}
	s.bounds = b
	s.connections.limit, s.longPolls.limit, s.leases.limit = b.Connections, b.LongPolls, b.Leases
	if s.requests = nil; b.RequestsPerSecond > 0 {
		s.requests = rate.NewLimiter(rate.Limit(b.RequestsPerSecond), int(max(1, math.Ceil(b.RequestsPerSecond))))
	}
	if s.memory = nil; b.BodyBytes > 0 {
		s.memory = NewBudget(b.BodyBytes) // requests in progress release what they hold to the former one
	}
}

// Request takes a request from the token bucket. It returns a too_many_requests error with
// the time until the next one if the bucket is empty.
func (s *Share) Request() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	limiter := s.requests
	s.mu.Unlock()
	if limiter == nil || limiter.Allow() {
		return nil
	}
	missing := max(0, 1-limiter.Tokens())
	return over("requests in a second", time.Duration(missing/float64(limiter.Limit())*float64(time.Second)))
}

// Connect counts a connection; Disconnect ends that. It returns a too_many_requests error
// at the limit.
func (s *Share) Connect() error {
	if s == nil {
		return nil
	}
	return s.hold(&s.connections, 1, "connections")
}

// Disconnect ends the count of a connection.
func (s *Share) Disconnect() {
	if s != nil {
		s.free(&s.connections, 1)
	}
}

// Wait counts a long poll; EndWait ends that. It returns a too_many_requests error at the
// limit.
func (s *Share) Wait() error {
	if s == nil {
		return nil
	}
	return s.hold(&s.longPolls, 1, "long polls")
}

// EndWait ends the count of a long poll.
func (s *Share) EndWait() {
	if s != nil {
		s.free(&s.longPolls, 1)
	}
}

// Lease implements [messaging.LeaseQuota].
func (s *Share) Lease(n int) (counted int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.leases
	if c.limit > 0 {
		n = min(n, c.limit-c.n)
	}
	if n <= 0 {
		return 0, over("leased messages", time.Second)
	}
	c.n += n
	return n, nil
}

// EndLease implements [messaging.LeaseQuota].
func (s *Share) EndLease(n int) { s.free(&s.leases, n) }

// LeaseQuota returns the share as a quota, or nil if it has no limits.
func (s *Share) LeaseQuota() messaging.LeaseQuota {
	if s == nil {
		return nil
	}
	return s
}

func (s *Share) hold(c *count, n int, what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.limit > 0 && c.n+n > c.limit {
		return over(what, time.Second)
	}
	c.n += n
	return nil
}

func (s *Share) free(c *count, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.n -= n
}

// Memory returns the budget of the caller's requests, or nil if they have no limit of
// their own.
func (s *Share) Memory() *Budget {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory
}

// StartJob checks the number of jobs, of which running reports whether one still runs. It
// returns a too_many_requests error at the limit. The caller calls Started with the id of
// the job afterwards; two calls at once may exceed the limit by one.
func (s *Share) StartJob(running func(id string) bool) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.jobs[:0]
	for _, id := range s.jobs {
		if running(id) {
			kept = append(kept, id)
		}
	}
	if s.jobs = kept; s.bounds.Jobs > 0 && len(s.jobs) >= s.bounds.Jobs {
		return over("jobs", time.Second)
	}
	return nil
}

// Started counts a job.
func (s *Share) Started(id string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bounds.Jobs > 0 {
		s.jobs = append(s.jobs, id)
	}
}

func over(what string, wait time.Duration) error {
	err := messaging.Errorf(messaging.CodeTooManyRequests, "this token is at its limit of %s", what)
	err.RetryAfter = wait
	return err
}
