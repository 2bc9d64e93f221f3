package engine_test

import (
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/engine"
)

// disorder is a way in which disk operations fail.
type disorder struct {
	name string
	err  error
	// spell is how many operations fail, from the kth on.
	spell int64
}

var errInputOutput = fmt.Errorf("injected: %w", syscall.EIO)

var disorders = []disorder{
	{"one fails", errInputOutput, 1},
	{"all fail from then on", errInputOutput, 1 << 40},
	{"one operation finds the disk full", fmt.Errorf("injected: %w", syscall.ENOSPC), 1},
	{"the disk is full for a while", fmt.Errorf("injected: %w", syscall.ENOSPC), 8},
}

// TestRigDiskErrors makes every disk operation fail, one after the other: while a store is
// created and first used, and while a store after a power cut is recovered and used. The
// service returns an error or ends, it does not hang, and the next start finds everything
// that was acknowledged. A round goes through every operation with every disorder once.
func TestRigDiskErrors(t *testing.T) {
	torture.Run(t, 1, func(r *torture.Round) { failEverywhere(r, breach{}, 1+slower/5) })
}

func TestRigDiskErrorsCatchesCommitsWithoutSync(t *testing.T) {
	torture.Control(t, 1, func(r *torture.Round) { failEverywhere(r, breach{noSync: true}, 7) })
}

// failEverywhere makes every stepth operation fail.
func failEverywhere(r *torture.Round, how breach, step int) {
	for _, d := range disorders {
		for _, recovery := range []bool{false, true} {
			for k := 1; ; k += step {
				hit := failAt(r, how, d, recovery, int64(k))
				if r.Failed() {
					r.Errorf("%s at operation %d, recovery %t", d.name, k, recovery)
					return
				}
				if !hit {
					break
				}
				r.Count("faults", 1)
			}
		}
	}
}

// failing is a disk on which some operations fail.
type failing struct {
	disorder

	from   int64
	count  atomic.Int64
	first  atomic.Pointer[errorfs.Op] // the first operation that failed; nil for none
	ended  chan error                 // receives when the service would have ended
	once   sync.Once
	life   *life
	random *rand.Rand
	disk   disk // the state of the disk at that time
}

func (f *failing) at(op errorfs.Op) error {
	n := f.count.Add(1)
	if n < f.from || n >= f.from+f.spell {
		return nil
	}
	f.first.CompareAndSwap(nil, &op)
	if op.Kind == errorfs.OpFileRead {
		return errInputOutput // and never the end of the file
	}
	return f.err
}

// fatal is the end of the process. Nothing that happens afterwards counts.
func (f *failing) fatal(err error) {
	f.once.Do(func() {
		f.life.ledger.crash(func() { f.disk = f.life.disk.crash(f.random) })
		f.ended <- err
	})
	select {} // it must not return
}

// hangTimeout is the time after which the service counts as hanging.
const hangTimeout = 20 * time.Second

// failAt makes the kth operation fail in one short life. hit reports whether there was a
// kth operation.
func failAt(r *torture.Round, how breach, d disorder, recovery bool, k int64) (hit bool) {
	l := &life{
		Round: r, Rand: rand.New(rand.NewPCG(r.Seed, 7)), // the same each time
		disk: newDisk(), ledger: newLedger(), memTable: 64 << 10, breach: how, config: engine.Config{MaxDeliveries: 3, Retention: 30 * 24 * time.Hour},
	}
	l.moves, l.failing = quickMoves, true
	healthy := func(errorfs.Op) error { return nil }
	if recovery && !l.workUntilCut(healthy) {
		return true
	}
	f := &failing{disorder: d, from: k, ended: make(chan error, 1), life: l, random: rand.New(rand.NewPCG(l.Rand.Uint64(), 8))}
	l.ledger.thaw()
	done := make(chan error, 1)
	go func() { done <- l.workAndClose(f) }()
	select {
	case <-f.ended:
		l.Count("ends", 1)
	case err := <-done:
		if err != nil {
			l.Count("errors", 1)
		} else if f.first.Load() != nil {
			l.Count("tolerated", 1)
		}
		// Either what the process wrote is still there, or the power is cut, too.
		l.ledger.crash(func() { f.disk = l.disk.crash(f.random) })
	case <-time.After(hangTimeout):
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		r.Errorf("the service hangs:\n%s", stacks.String())
		return true
	}
	again := l.another(f.disk)
	again.judgeAfter(healthy)
	first := f.first.Load()
	if r.Failed() && first != nil {
		r.Errorf("operation %d of %s failed", first.Kind, first.Path)
	}
	return first != nil
}

// quickMoves are the moves that take no time.
var quickMoves = []move{
	{20, (*client).send},
	{6, (*client).sendAll},
	{5, (*client).broadcast},
	{6, (*client).sendWithKey},
	{8, (*client).take},
	{8, (*client).lease},
	{8, (*client).acknowledge},
	{6, (*client).nack},
	{2, (*client).clear},
	{4, (*client).query},
	{4, (*client).redrive},
	{6, (*client).drain},
	{4, (*client).mark},
}

// workUntilCut creates a store and cuts its power, so that there is something to recover.
func (l *life) workUntilCut(healthy func(op errorfs.Op) error) bool {
	b, err := l.start(faults{at: healthy})
	if err != nil {
		l.Errorf("a healthy disk: %v", err)
		return false
	}
	b.serve()
	b.work(2, 15)
	var left disk
	l.ledger.crash(func() { left = l.disk.crash(l.Rand) })
	l.evicted = 0
	l.ledger.forgetTaken()
	if err := b.close(); err != nil {
		l.Errorf("a healthy disk: %v", err)
		return false
	}
	l.disk, l.receipts = left, nil
	return true
}

// workAndClose opens, works and closes. It returns the error of the first of these that
// failed.
func (l *life) workAndClose(f *failing) error {
	b, err := l.start(faults{at: f.at, fatal: f.fatal})
	if err != nil {
		return err
	}
	b.serve()
	b.work(2, 15)
	l.receipts = nil
	return b.close()
}

// another returns the life that continues after a process has ended. Goroutines of the old
// one may be left; their ledger stays frozen.
func (l *life) another(left disk) *life {
	again := *l
	again.failing = false
	again.disk, again.ledger, again.Rand = left, l.ledger.copied(), rand.New(rand.NewPCG(l.Seed, 9))
	return &again
}

// judgeAfter starts on a working disk, and looks for what was acknowledged.
func (l *life) judgeAfter(healthy func(op errorfs.Op) error) {
	l.ledger.thaw()
	b, err := l.start(faults{at: healthy})
	if err != nil {
		l.Errorf("it no longer starts: %v", err)
		return
	}
	b.judge()
	if err := b.close(); err != nil {
		l.Errorf("close: %v", err)
	}
}
