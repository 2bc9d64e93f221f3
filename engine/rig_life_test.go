package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// bubbled runs each round in a bubble, where an hour's lease costs nothing.
func bubbled(t *testing.T, round func(r *torture.Round)) func(r *torture.Round) { //nolint:thelper // it is the round that tests
	return func(r *torture.Round) {
		synctest.Test(t, func(*testing.T) {
			// It runs in its own goroutine, because FailNow ends the goroutine.
			done := make(chan struct{})
			go func() {
				defer close(done)
				round(r)
			}()
			<-done
		})
	}
}

// disk is everything that survives a crash.
type disk struct {
	fs      *vfs.MemFS
	control *storage.MemoryControl
}

func newDisk() disk { return disk{vfs.NewCrashableMem(), storage.NewMemoryControl()} }

// crash returns what a crash at this moment leaves of the disk.
func (d disk) crash(random *rand.Rand) disk {
	config := vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: rand.New(rand.NewPCG(random.Uint64(), 2))}
	control := d.control.CrashClone(random.IntN(2) == 0)
	return disk{d.fs.CrashClone(config), control}
}

// life is the life of one store, through all its crashes.
type life struct {
	*torture.Round

	Rand   *rand.Rand // the round's, or derived from it
	disk   disk
	ledger *ledger
	config engine.Config
	// memTable is the size of the memtables: small ones are written as tables.
	memTable uint64
	breach   breach
	failing  bool // disk operations fail
	moves    []move
	boots    int
	evicted  uint64        // in the last boot: so many messages may be missing
	budget   int           // of large broadcasts
	receipts []heldReceipt // receipts of the last boot
}

// breach is how a service breaks durability, on purpose.
type breach struct {
	noSync bool
	early  time.Duration
}

// boot is the service from a start to its end.
type boot struct {
	*life

	store    *storage.Store
	log      *wal.Log
	engine   *engine.Engine
	stop     context.CancelFunc
	services sync.WaitGroup
	draining chan struct{} // a lock for moving the drain; a channel, so that a bubble counts its waiters as blocked
}

// faults are the faults of a boot. at is called before each disk operation, and its error
// becomes the operation's. fatal is called when the service would end by itself.
type faults struct {
	at    func(op errorfs.Op) error
	fatal func(err error)
}

// start opens the service. Its services do not run yet.
func (l *life) start(f faults) (*boot, error) {
	l.boots++
	l.disk.control.OnSync(func() error { return f.at(errorfs.Op{Kind: errorfs.OpFileSync, Path: "control.db"}) })
	b := &boot{life: l, draining: make(chan struct{}, 1)}
	var err error
	b.store, err = storage.Open(storage.Config{
		Dir: "/data", FS: errorfs.Wrap(l.disk.fs, errorfs.InjectorFunc(f.at)), Control: l.disk.control.Open,
		MemTableBytes: l.memTable, CacheBytes: 1 << 20, NoSync: l.breach.noSync, Fatal: f.fatal,
	})
	if err != nil {
		return nil, err
	}
	if b.log, err = wal.Open(wal.Config{Store: b.store, Early: l.breach.early}); err != nil {
		return nil, errors.Join(err, b.store.Close())
	}
	config := l.config
	config.Store, config.Log = b.store, b.log
	config.DrainPosition = func() messaging.Position {
		l.ledger.mu.Lock()
		defer l.ledger.mu.Unlock()
		return l.ledger.position
	}
	if b.engine, err = engine.Open(config); err != nil {
		return nil, errors.Join(err, b.log.Close(), b.store.Close())
	}
	return b, nil
}

func (b *boot) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	for _, service := range b.engine.Services() {
		b.services.Go(func() {
			if err := service.Run(ctx); err != nil {
				b.complain("a service ended", err)
			}
		})
	}
}

// complain reports an error of the service, unless the service has ended, or its disk
// fails and an error is the correct response.
func (b *boot) complain(doing string, err error) {
	if !b.failing {
		b.ledger.note(func() { b.Errorf("%s: %v", doing, err) })
	}
}

// close stops everything in order.
func (b *boot) close() error {
	b.engine.StopWaiting()
	if b.stop != nil {
		b.stop()
	}
	b.services.Wait()
	return errors.Join(b.log.Close(), b.store.Close())
}

// cut cuts the power after so many disk operations, or when now is called.
type cut struct {
	life   *life
	left   atomic.Int64
	once   sync.Once
	engine atomic.Pointer[engine.Engine]
	random *rand.Rand
	disk   disk // what the crash left
}

func (l *life) newCut(after int) *cut {
	c := &cut{life: l, random: rand.New(rand.NewPCG(l.Rand.Uint64(), 3))}
	c.left.Store(int64(after))
	return c
}

func (c *cut) at(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && c.left.Add(-1) == 0 {
		c.now()
	}
	return nil
}

func (c *cut) now() {
	c.once.Do(func() {
		c.life.ledger.crash(func() {
			c.disk = c.life.disk.crash(c.random)
			if e := c.engine.Load(); e != nil {
				c.life.evicted = e.Stats().Evicted
			}
		})
	})
}
