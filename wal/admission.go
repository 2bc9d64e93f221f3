package wal

import (
	"sync"
	"time"
)

// admission bounds the callers that wait for a commit, by how long they wait.
//
// A bound on the number of changes alone does not bound the wait: a disk may make a
// hundred changes durable in a second, or fifty thousand. So the limit follows the
// measured wait, after CoDel. If every wait stayed above target for a full interval, the
// queue is standing, not bursting. Then the limit is the number of changes that are served
// within target.
//
// The wait is measured where the caller resumes, so it includes the time until a processor
// runs the caller.
type admission struct {
	maxLimit int // the limit while waits are short

	mu              sync.Mutex
	limit           int
	waiting         int
	lastUnderTarget time.Time // when a wait last was within target, or there was no waiter
	changed         time.Time // when the limit last changed
	left            time.Time // when a caller last left
}

const (
	// target is how long a change may wait for the disk before further changes are
	// refused.
	target = 500 * time.Millisecond
	// interval is how long every wait must stay above target before the limit falls. The
	// limit changes at most once per interval.
	interval = 500 * time.Millisecond
	// minLimit is the lowest limit: a disk that is slow for one change is hardly slower
	// for this many.
	minLimit = 128
)

func newAdmission(maxLimit int) *admission { return &admission{maxLimit: maxLimit, limit: maxLimit} }

// admit admits a caller, or returns false if the limit is reached. An admitted caller
// calls leave or cancel.
func (c *admission) admit(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idleLocked(now)
	if c.waiting >= c.limit {
		return false
	}
	if c.waiting == 0 {
		c.lastUnderTarget = now
	}
	c.waiting++
	return true
}

// idleLocked raises the limit for the time without waiters. It takes the steps that the
// limit would have taken if waits had been short.
func (c *admission) idleLocked(now time.Time) {
	if c.waiting > 0 {
		return
	}
	for idle := now.Sub(c.left); idle >= interval && c.limit < c.maxLimit; idle -= interval {
		c.limit, c.changed = c.raised(), now
	}
}

// raised returns the limit one step higher.
func (c *admission) raised() int { return min(c.maxLimit, c.limit+c.limit/4) }

// full reports whether a caller would be refused now.
func (c *admission) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting >= c.limit
}

// cancel undoes admit for a change that was not enqueued.
func (c *admission) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting--
}

// leave records that a caller admitted at since has resumed.
func (c *admission) leave(since time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adjustLocked(now, now.Sub(since))
	c.waiting--
	c.left = now
}

// adjustLocked adjusts the limit. All current waiters are served within about as long as
// this one waited, which gives the rate of the disk. The limit falls to what this rate
// serves within target. It rises in steps, because the spare capacity is unknown.
func (c *admission) adjustLocked(now time.Time, waited time.Duration) {
	late := waited > target
	if !late {
		c.lastUnderTarget = now
	}
	switch {
	case now.Sub(c.changed) < interval:
	case late && now.Sub(c.lastUnderTarget) >= interval && c.waiting > minLimit:
		served := float64(c.waiting) / waited.Seconds()
		c.limit, c.changed = min(c.limit, max(minLimit, int(served*target.Seconds()))), now
	case !late && c.limit < c.maxLimit:
		c.limit, c.changed = c.raised(), now
	}
}
