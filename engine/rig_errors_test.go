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

// disorder is how operations of a disk fail.
type disorder struct {
	name string
	err  error
	// spell is how many of them fail, from the kth on.
	spell int64
}

var errInputOutput = fmt.Errorf("injected: %w", syscall.EIO)

var disorders = []disorder{
	{"one fails", errInputOutput, 1},
	{"all fail from then on", errInputOutput, 1 << 40},
	{"one finds the disk full", fmt.Errorf("injected: %w", syscall.ENOSPC), 1},
	{"the disk is full for a while", fmt.Errorf("injected: %w", syscall.ENOSPC), 8},
}

// TestRigDiskErrors lets every operation of the disk fail, one after the other:
// while a store is made and used for the first time, and while one that was cut
// off is recovered and used. The service answers with an error or ends, it does
// not hang, and the next start finds all that was acknowledged. A round goes
// through every operation with every disorder once.
func TestRigDiskErrors(t *testing.T) {
	torture.Run(t, 1, func(r *torture.Round) { failEverywhere(r, breach{}, 1+slower/5) })
}

func TestRigDiskErrorsCatchesCommitsWithoutSync(t *testing.T) {
	torture.Control(t, 1, func(r *torture.Round) { failEverywhere(r, breach{noSync: true}, 7) })
}

// failEverywhere lets every stepth operation fail.
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

// failing is a disk of which some operations fail.
type failing struct {
	disorder

	from   int64
	count  atomic.Int64
	first  atomic.Pointer[errorfs.Op] // that failed; nil for none
	ended  chan error                 // the service would have ended
	once   sync.Once
	life   *life
	random *rand.Rand
	disk   disk // what it left then
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

// fatal is the end of the process: nothing that happens from here on counts.
func (f *failing) fatal(err error) {
	f.once.Do(func() {
		f.life.ledger.crash(func() { f.disk = f.life.disk.crash(f.random) })
		f.ended <- err
	})
	select {} // it must not return
}

// patience is after what time the service hangs.
const patience = 20 * time.Second

// failAt lets the kth operation fail in one small life. It says whether there
// was one.
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
		// What the process wrote is still there, or the power goes too.
		l.ledger.crash(func() { f.disk = l.disk.crash(f.random) })
	case <-time.After(patience):
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		r.Errorf("the service hangs:\n%s", stacks.String())
		return true
	}
	again := l.another(f.disk)
	again.judgeAfter(healthy)
	first := f.first.Load()
	if r.Failed() && first != nil {
		r.Errorf("it was operation %d of %s that failed", first.Kind, first.Path)
	}
	return first != nil
}

// quickMoves are those that take no time.
var quickMoves = []move{
	{20, (*client).send},
	{6, (*client).sendAll},
	{5, (*client).broadcast},
	{6, (*client).sendOnce},
	{8, (*client).take},
	{8, (*client).lease},
	{8, (*client).acknowledge},
	{6, (*client).reject},
	{2, (*client).clear},
	{4, (*client).look},
	{4, (*client).redrive},
	{6, (*client).drain},
	{4, (*client).mark},
}

// workUntilCut makes a store and cuts its power, so that there is something to
// recover.
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
	l.ledger.forgetSettled()
	if err := b.close(); err != nil {
		l.Errorf("a healthy disk: %v", err)
		return false
	}
	l.disk, l.lent = left, nil
	return true
}

// workAndClose opens, works and closes. Its error is that of the first of these
// that failed.
func (l *life) workAndClose(f *failing) error {
	b, err := l.start(faults{at: f.at, fatal: f.fatal})
	if err != nil {
		return err
	}
	b.serve()
	b.work(2, 15)
	l.lent = nil
	return b.close()
}

// another is what goes on after a process has ended, of which goroutines may be
// left here: their ledger stays frozen.
func (l *life) another(left disk) *life {
	again := *l
	again.failing = false
	again.disk, again.ledger, again.Rand = left, l.ledger.copied(), rand.New(rand.NewPCG(l.Seed, 9))
	return &again
}

// judgeAfter starts on a disk that works, and looks for what was acknowledged.
func (l *life) judgeAfter(healthy func(op errorfs.Op) error) {
	at := l.ledger.thaw()
	b, err := l.start(faults{at: healthy})
	if err != nil {
		l.Errorf("it does not start any more: %v", err)
		return
	}
	b.judge(at)
	if err := b.close(); err != nil {
		l.Errorf("close: %v", err)
	}
}
