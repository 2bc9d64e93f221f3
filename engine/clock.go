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
// and what is trimmed follows the wall clock, so while it jumps nothing is.
type clockGuard struct {
	mu     sync.Mutex
	wall   time.Time // without its monotonic part
	mono   time.Time
	parted time.Time // monotonic; zero while the clocks agree
}

func (g *clockGuard) reset(wall, mono time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wall, g.mono, g.parted = wall.Round(0), mono, time.Time{}
}

// steady compares how far both clocks went since they were last compared.
// jumped is true when they have just parted.
func (g *clockGuard) steady(wall, mono time.Time) (steady, jumped bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	drift := wall.Round(0).Sub(g.wall) - mono.Sub(g.mono)
	g.wall, g.mono = wall.Round(0), mono
	if drift.Abs() > clockTolerance {
		jumped = g.parted.IsZero()
		g.parted = mono
	}
	if !g.parted.IsZero() && mono.Sub(g.parted) >= clockQuarantine {
		g.parted = time.Time{}
	}
	return g.parted.IsZero(), jumped
}
