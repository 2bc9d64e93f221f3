package engine_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/engine"
)

// crashesPerLife is how often the power is cut in the life of one store.
const crashesPerLife = 10

// TestRigCrash lets clients do all that they can from several goroutines, cuts
// the power before some operation of the disk, and compares what is there then
// with what was answered (invariants 1 to 6 and 9). A round is the life of a
// store, with several crashes.
func TestRigCrash(t *testing.T) {
	torture.Run(t, 2000/crashesPerLife/slower, bubbled(t, crashing(breach{})))
}

func TestRigCrashCatchesCommitsWithoutSync(t *testing.T) {
	torture.Control(t, 20, bubbled(t, crashing(breach{noSync: true})))
}

func TestRigCrashCatchesAnswersBeforeTheWrite(t *testing.T) {
	torture.Control(t, 20, bubbled(t, crashing(breach{early: time.Millisecond})))
}

func crashing(how breach) func(r *torture.Round) {
	return func(r *torture.Round) {
		l := newLife(r, how)
		for range crashesPerLife {
			l.crash()
			if r.Failed() {
				return
			}
			r.Count("crashes", 1)
		}
		l.end()
		r.Count("messages", len(l.ledger.messages))
	}
}

// newLife draws what kind of life it is to be.
func newLife(r *torture.Round, how breach) *life {
	l := &life{Round: r, Rand: r.Rand, disk: newDisk(), ledger: newLedger(), memTable: 1 << 20, breach: how}
	l.moves = everyMove
	l.config = engine.Config{MaxDeliveries: uint32(r.Rand.IntN(4)), Retention: 30 * 24 * time.Hour}
	switch r.Rand.IntN(20) {
	case 0:
		l.budget = 2
	case 1, 2, 3, 4, 5:
		l.config.QueueMax = 8
	case 6, 7, 8, 9, 10:
		// Then nothing can be due later, by the contract.
		l.config.Retention = 20 * time.Second
	case 11:
		l.memTable = 64 << 10
	}
	return l
}

// openOperations is about how many operations of the disk a start takes.
const openOperations = 52

// crash starts the service, judges what it found, and lets it work until the
// power is cut.
func (l *life) crash() {
	l.Helper()
	after := openOperations + l.Rand.IntN(80)
	if l.Rand.IntN(8) == 0 {
		after = 1 + l.Rand.IntN(openOperations)
	}
	c, before := l.newCut(after), l.ledger.thaw()
	b, err := l.start(faults{at: c.at})
	if err != nil {
		l.Fatalf("boot %d does not start: %v", l.boots, err)
	}
	defer func() {
		c.now()
		if err := b.close(); err != nil {
			l.Errorf("close: %v", err)
		}
		l.disk = c.disk
	}()
	if !l.ledger.note(func() {}) { // the power was cut while it started
		l.Count("crashes at start", 1)
		return
	}
	if !b.judge(before) {
		return
	}
	c.engine.Store(b.engine)
	b.serve()
	b.work(3, 1+l.Rand.IntN(30))
}

// work lets clients make so many moves each.
func (b *boot) work(clients, moves int) {
	var all sync.WaitGroup
	var clientele []*client
	for n := range clients {
		c := newClient(b, n)
		clientele = append(clientele, c)
		all.Go(func() { c.work(moves) })
	}
	all.Wait()
	for _, c := range clientele {
		b.lent = append(b.lent, c.held...)
	}
}

// end starts the service for the last time, lets everything that is under way
// come to its end, and takes all that there is.
func (l *life) end() {
	l.Helper()
	before := l.ledger.thaw()
	b, err := l.start(faults{at: l.newCut(0).at})
	if err != nil {
		l.Fatalf("the last start: %v", err)
	}
	defer func() {
		if err := b.close(); err != nil {
			l.Errorf("close: %v", err)
		}
	}()
	if !b.judge(before) {
		return
	}
	b.serve()
	time.Sleep(time.Minute) // what is due later or expires does so
	for b.engine.Stats().Fanouts > 0 {
		time.Sleep(time.Second)
	}
	b.judgeFanouts()
	for _, user := range users {
		b.takeAll(user)
	}
}

// takeAll takes a queue to its end, and finds what Peek showed, in its order.
func (b *boot) takeAll(user messaging.UserID) {
	b.Helper()
	shown, err := b.engine.Peek(user, 1000)
	if err != nil {
		b.Fatal(err)
	}
	for len(shown) > 0 {
		h, err := b.engine.Take(context.Background(), user, messaging.TakeOptions{Limit: 7})
		if err != nil {
			b.Fatal(err)
		}
		h.Settle(true)
		if len(h.Messages) == 0 {
			b.Fatalf("%d messages of %s were shown and cannot be taken", len(shown), user)
		}
		for i := range h.Messages {
			if len(shown) == 0 || h.Messages[i].ID != shown[0].ID {
				b.Fatalf("user %s got message %d out of its turn", user, h.Messages[i].Position.Sequence)
			}
			shown = shown[1:]
		}
	}
}
