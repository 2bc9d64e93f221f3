package engine

import (
	"sync"
	"time"
)

// clockTolerance is how far the wall clock may deviate from the monotonic one.
// clockQuarantine is how long they must agree after a jump.
const (
	clockTolerance  = time.Minute
	clockQuarantine = 10 * time.Minute
)

// clockGuard detects a wall clock that was set. Retention follows the wall clock, so it
// pauses after a jump. Due and expiry times continue on the time without the jump, until
// the clocks have agreed for clockQuarantine.
type clockGuard struct {
	mu         sync.Mutex
	wall       time.Time // at the last read, without its monotonic part
	mono       time.Time
	now        time.Time // the time returned by the last read
	jumpedAt   time.Time // when the last jump was seen, monotonic; zero while the clocks agree
	unreported bool      // a jump was seen and is not logged yet
}

func (g *clockGuard) reset(wall, mono time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wall, g.mono, g.now, g.jumpedAt = wall.Round(0), mono, wall.Round(0), time.Time{}
}

// read compares the progress of both clocks since the last read. now is the engine's time.
// steady is false for [clockQuarantine] after a jump.
func (g *clockGuard) read(wall, mono time.Time) (now time.Time, steady bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wall = wall.Round(0)
	elapsed := mono.Sub(g.mono)
	if drift := wall.Sub(g.wall) - elapsed; drift.Abs() > clockTolerance {
		g.unreported = g.unreported || g.jumpedAt.IsZero()
		g.jumpedAt = mono
	}
	if !g.jumpedAt.IsZero() && mono.Sub(g.jumpedAt) >= clockQuarantine {
		g.jumpedAt = time.Time{}
	}
	g.now = g.now.Add(elapsed)
	if g.jumpedAt.IsZero() {
		g.now = wall
	}
	g.wall, g.mono = wall, mono
	return g.now, g.jumpedAt.IsZero()
}

// jumped reports, once per jump, that the wall clock was set.
func (g *clockGuard) jumped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	unreported := g.unreported
	g.unreported = false
	return unreported
}
