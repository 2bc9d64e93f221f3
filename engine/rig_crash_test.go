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

// TestRigCrash runs clients that make all kinds of calls concurrently, cuts the power
// before some operation of the disk, and compares the recovered store with what was
// acknowledged (invariants 1 to 6 and 9). A round is the life of one store, with several
// crashes.
func TestRigCrash(t *testing.T) {
	torture.Run(t, 1000/crashesPerLife/slower, bubbled(t, crashing(breach{})))
}

func TestRigCrashCatchesCommitsWithoutSync(t *testing.T) {
	torture.Control(t, 20, bubbled(t, crashing(breach{noSync: true})))
}

func TestRigCrashCatchesResponsesBeforeTheWrite(t *testing.T) {
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

// newLife draws the configuration of a life.
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

// openOperations is about how many disk operations a start takes.
const openOperations = 52

// crash starts the service, judges what it recovered, and lets it work until the power is
// cut.
func (l *life) crash() {
	l.Helper()
	after := openOperations + l.Rand.IntN(80)
	if l.Rand.IntN(8) == 0 {
		after = 1 + l.Rand.IntN(openOperations)
	}
	c := l.newCut(after)
	l.ledger.thaw()
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
	if !l.ledger.note(func() {}) { // the power was cut during the start
		l.Count("crashes at start", 1)
		return
	}
	if !b.judge() {
		return
	}
	c.engine.Store(b.engine)
	b.serve()
	b.work(3, 1+l.Rand.IntN(30))
}

// work runs clients that make so many moves each.
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
		b.receipts = append(b.receipts, c.held...)
	}
}

// end starts the service for the last time, waits for everything that is in progress, and
// takes all messages.
func (l *life) end() {
	l.Helper()
	l.ledger.thaw()
	b, err := l.start(faults{at: l.newCut(0).at})
	if err != nil {
		l.Fatalf("the last start: %v", err)
	}
	defer func() {
		if err := b.close(); err != nil {
			l.Errorf("close: %v", err)
		}
	}()
	if !b.judge() {
		return
	}
	b.serve()
	time.Sleep(time.Minute) // until delayed messages are due or expire
	for b.engine.Stats().Fanouts > 0 {
		time.Sleep(time.Second)
	}
	b.judgeFanouts()
	for _, user := range users {
		b.takeAll(user)
	}
}

// takeAll takes all messages of a queue, and compares them with what Peek returned, in
// order.
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
		h.Finish(true)
		if len(h.Messages) == 0 {
			b.Fatalf("%d peeked messages of %s cannot be taken", len(shown), user)
		}
		for i := range h.Messages {
			if len(shown) == 0 || h.Messages[i].ID != shown[0].ID {
				b.Fatalf("user %s got message %d out of order", user, h.Messages[i].Position.Sequence)
			}
			shown = shown[1:]
		}
	}
}
