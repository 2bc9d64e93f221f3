package engine

import (
	"sync"
	"time"
)

// How far the wall clock may part from the monotonic one, and for how long
// they must agree again.
const (
	clockTolerance  = time.Minute
	clockQuarantine = 10 * time.Minute
)

// clockGuard tells a wall clock that runs from one that was set. What is kept
// and what is trimmed follows the wall clock, so while it jumps nothing is; and
// what is due or expires goes on by the time that it would be without the jump,
// until the new time has held for a while.
type clockGuard struct {
	mu     sync.Mutex
	wall   time.Time // when it was last read, without its monotonic part
	mono   time.Time
	now    time.Time // what was given out then
	parted time.Time // monotonic; zero while the clocks agree
	untold bool      // they have parted, and nobody was told
}

func (g *clockGuard) reset(wall, mono time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wall, g.mono, g.now, g.parted = wall.Round(0), mono, wall.Round(0), time.Time{}
}

// read compares how far both clocks went since they were last read. now is the
// time to go by; steady is false while the clocks have parted.
func (g *clockGuard) read(wall, mono time.Time) (now time.Time, steady bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wall = wall.Round(0)
	elapsed := mono.Sub(g.mono)
	if drift := wall.Sub(g.wall) - elapsed; drift.Abs() > clockTolerance {
		g.untold = g.untold || g.parted.IsZero()
		g.parted = mono
	}
	if !g.parted.IsZero() && mono.Sub(g.parted) >= clockQuarantine {
		g.parted = time.Time{}
	}
	g.now = g.now.Add(elapsed)
	if g.parted.IsZero() {
		g.now = wall
	}
	g.wall, g.mono = wall, mono
	return g.now, g.parted.IsZero()
}

// jumped says, once, that the clocks have parted.
func (g *clockGuard) jumped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	untold := g.untold
	g.untold = false
	return untold
}
