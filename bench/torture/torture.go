// Package torture runs rigs: tests that inject faults into the service repeatedly, in
// rounds drawn from a seed, and check for losses.
//
// A rig is a test named TestRig<Name> that calls [Run]. An ordinary test run executes
// its short form. `make torture RIG=<name> ROUNDS=<n> SEED=<s>` runs one rig for that
// many rounds, with a progress line and a summary at the end; it sets the environment
// variables that [Run] reads.
//
// Every rig except seams has a negative control: a test whose name begins with the rig's
// name and continues with "Catches…". It runs the same round with a service that breaks
// its guarantees on purpose. That round must fail.
package torture

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The environment of a long form.
const (
	envRounds = "TORTURE_ROUNDS"
	envSeed   = "TORTURE_SEED"
)

// Long reports whether the long form of a rig was requested.
func Long() bool { return os.Getenv(envRounds) != "" }

// Round is one round of a rig. It draws everything random from Rand, so that the same
// seed repeats the round, as far as the scheduler allows.
type Round struct {
	testing.TB
	// Number counts from 0.
	Number int
	// Seed is the seed of this round alone: SEED with ROUNDS=1 repeats the round.
	Seed uint64
	Rand *rand.Rand

	rig      *rig
	cleanups []func()
}

// Cleanup registers f to be called at the end of the round, last one first. The Cleanup
// of the test would keep them all until the end of the test.
func (r *Round) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// TempDir returns a directory that is removed at the end of the round.
func (r *Round) TempDir() string {
	r.Helper()
	dir, err := os.MkdirTemp("", "messaging-rig-")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			r.Error(err)
		}
	})
	return dir
}

// run executes one round. ended reports whether it returned normally.
func (r *Round) run(round func(r *Round)) (ended bool) {
	defer func() {
		for _, f := range slices.Backward(r.cleanups) {
			f()
		}
	}()
	round(r)
	return true
}

func newRound(tb testing.TB, g *rig, number int, seed uint64) *Round { //nolint:thelper // it is the round's, not helped by it
	r := &Round{TB: tb, Number: number, Seed: seed + uint64(number), rig: g} //nolint:gosec // not negative
	r.Rand = rand.New(rand.NewPCG(r.Seed, 0))                                //nolint:gosec // chance, not secrecy
	return r
}

// Count adds n to a figure of the rig's summary, such as "messages" or "losses". It is
// safe for concurrent use.
func (r *Round) Count(figure string, n int) { r.rig.count(figure, n) }

type rig struct {
	name    string
	began   time.Time
	mu      sync.Mutex
	names   []string
	figures map[string]int
}

// Run executes that many rounds of the rig of the test, or as many as the environment
// requests. It stops at the first failed round and logs how to repeat it.
func Run(t *testing.T, rounds int, round func(r *Round)) {
	t.Helper()
	rounds, seed := given(t, rounds)
	g := &rig{name: strings.ToLower(strings.TrimPrefix(t.Name(), "TestRig")), began: time.Now(), figures: make(map[string]int)}
	done := 0
	defer func() {
		t.Logf("rig %s: %d of %d rounds%s in %s, seed %d", g.name, done, rounds, g.summary(), time.Since(g.began).Round(time.Millisecond), seed)
	}()
	var shown time.Time
	for n := range rounds {
		r := newRound(t, g, n, seed)
		ended := false
		func() {
			defer func() {
				if !ended || t.Failed() {
					t.Logf("round %d failed; again: make torture RIG=%s ROUNDS=1 SEED=%d", n, g.name, r.Seed)
				}
			}()
			ended = r.run(round)
		}()
		if t.Failed() {
			return
		}
		done++
		if Long() && time.Since(shown) > time.Second {
			shown = time.Now()
			g.progress(os.Stderr, done, rounds)
		}
	}
	if Long() {
		g.progress(os.Stderr, done, rounds)
		_, _ = fmt.Fprintln(os.Stderr)
	}
}

// given returns the number of rounds and the first seed.
func given(t *testing.T, rounds int) (int, uint64) {
	t.Helper()
	if s := os.Getenv(envRounds); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("ROUNDS is %q; it must be a number from 1", s)
		}
		rounds = n
	}
	s := os.Getenv(envSeed)
	if s == "" {
		return rounds, uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("SEED is %q; it must be a number from 0", s)
	}
	return rounds, seed
}

func (g *rig) count(figure string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.figures[figure]; !ok {
		g.names = append(g.names, figure)
	}
	g.figures[figure] += n
}

func (g *rig) summary() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for _, name := range g.names {
		fmt.Fprintf(&b, ", %s %d", name, g.figures[name])
	}
	return b.String()
}

func (g *rig) progress(w io.Writer, done, rounds int) {
	spent := time.Since(g.began)
	left := time.Duration(float64(spent) / float64(done) * float64(rounds-done))
	_, _ = fmt.Fprintf(w, "\r%s: %d of %d rounds%s, %s gone, %s left\x1b[K", g.name, done, rounds, g.summary(), spent.Round(time.Second), left.Round(time.Second))
}

// Control runs a round that breaks the guarantees until the rig detects it, for at most
// that many rounds, and fails if it never does. It catches the failures that such a
// round reports through its Round.
func Control(t *testing.T, rounds int, round func(r *Round)) {
	t.Helper()
	_, seed := given(t, rounds)
	g := &rig{figures: make(map[string]int)}
	for n := range rounds {
		c := &caught{TB: t}
		r := newRound(c, g, n, seed)
		done := make(chan struct{})
		go func() { // FailNow ends its goroutine
			defer close(done)
			r.run(round)
		}()
		<-done
		if first := c.first(); first != "" {
			t.Logf("found in round %d: %s", n, first)
			return
		}
	}
	t.Errorf("the guarantees were broken on purpose in %d rounds, and the rig found nothing (seed %d)", rounds, seed)
}

// caught is a test that is expected to fail: it records the failures.
type caught struct {
	testing.TB
	mu      sync.Mutex
	reports []string
	failed  bool
}

func (c *caught) report(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = true
	if s = strings.TrimSpace(s); s != "" {
		c.reports = append(c.reports, s)
	}
}

func (c *caught) first() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed && len(c.reports) == 0 {
		return "failed without a message"
	}
	return strings.Join(slices.Clone(c.reports[:min(1, len(c.reports))]), "")
}

func (c *caught) Failed() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.failed }

func (c *caught) Error(args ...any)                 { c.report(fmt.Sprintln(args...)) }
func (c *caught) Errorf(format string, args ...any) { c.report(fmt.Sprintf(format, args...)) }
func (c *caught) Fail()                             { c.report("") }
func (c *caught) FailNow()                          { c.report(""); runtime.Goexit() }
func (c *caught) Fatal(args ...any)                 { c.report(fmt.Sprintln(args...)); runtime.Goexit() }

func (c *caught) Fatalf(format string, args ...any) {
	c.report(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
