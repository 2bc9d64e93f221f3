package wal

import (
	"sync"
	"time"
)

// crowd bounds those who wait for a commit, by how long they wait.
//
// A bound in changes alone is no bound in time: what a disk makes durable in a
// second may be a hundred changes or fifty thousand. So the bound follows what
// is measured, after CoDel: where for some time nobody has waited for less than
// patience, the queue stands and is no burst, and no more are let in than are
// served within patience.
//
// The wait is measured where the caller goes on, so that it also counts how long
// the processors took to get there.
type crowd struct {
	most int // the limit while nobody waits for long

	mu      sync.Mutex
	limit   int
	waiting int
	calm    time.Time // when somebody last waited for less than patience, or nobody did
	moved   time.Time // when the limit was last moved
	left    time.Time // when somebody last left
}

const (
	// patience is how long a change may wait for the disk before others are told
	// to come back.
	patience = 500 * time.Millisecond
	// judging is how long all must have waited for longer before the limit falls,
	// and how often it moves at most.
	judging = 500 * time.Millisecond
	// fewest are always let in: a disk that is slow for one change is hardly
	// slower for so many.
	fewest = 128
)

func newCrowd(most int) *crowd { return &crowd{most: most, limit: most} }

// enter lets a caller in, or says that there are too many. Whoever was let in
// leaves.
func (c *crowd) enter(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restLocked(now)
	if c.waiting >= c.limit {
		return false
	}
	if c.waiting == 0 {
		c.calm = now
	}
	c.waiting++
	return true
}

// restLocked lets the limit rise for the time in which nobody waited, in the steps
// that it would have taken with somebody there to show how quick the disk is.
func (c *crowd) restLocked(now time.Time) {
	if c.waiting > 0 {
		return
	}
	for rest := now.Sub(c.left); rest >= judging && c.limit < c.most; rest -= judging {
		c.limit, c.moved = c.risen(), now
	}
}

// risen is the limit a step higher.
func (c *crowd) risen() int { return min(c.most, c.limit+c.limit/4) }

// full says that nobody is let in at the moment.
func (c *crowd) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting >= c.limit
}

// refused undoes enter for a change that was not taken after all.
func (c *crowd) refused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting--
}

// leave notes that a caller goes on that was let in at a time.
func (c *crowd) leave(since time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judgeLocked(now, now.Sub(since))
	c.waiting--
	c.left = now
}

// judgeLocked moves the limit. Those who wait are served within about as long as
// this one has waited; so many fewer are within patience. The limit rises again
// step by step, as nobody knows how much more there may be.
func (c *crowd) judgeLocked(now time.Time, waited time.Duration) {
	late := waited > patience
	if !late {
		c.calm = now
	}
	switch {
	case now.Sub(c.moved) < judging:
	case late && now.Sub(c.calm) >= judging && c.waiting > fewest:
		served := float64(c.waiting) / waited.Seconds()
		c.limit, c.moved = min(c.limit, max(fewest, int(served*patience.Seconds()))), now
	case !late && c.limit < c.most:
		c.limit, c.moved = c.risen(), now
	}
}
