package engine_test

import (
	"context"
	"flag"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

var (
	crashRounds = flag.Int("crash.rounds", 60, "how many crashes to go through")
	crashSeed   = flag.Uint64("crash.seed", 0, "seed of the crashes; 0 takes one from the clock")
)

// TestAcknowledgedMessagesSurviveCrashes sends and takes from several
// goroutines, cuts the power at some moment, and compares what is there with
// what was answered (invariants 1, 2, 4 and 9).
func TestAcknowledgedMessagesSurviveCrashes(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash.seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t, engine.Config{})
	ledger := newLedger()
	for round := range *crashRounds {
		crashOnce(t, r, ledger, random, round)
		if t.Failed() {
			return
		}
	}
}

func crashOnce(t *testing.T, r *rig, l *ledger, random *rand.Rand, round int) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() { l.work(t, r.engine, round, worker, stop) })
	}
	time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond)
	// What was answered up to here must be there; what is answered while the
	// clone is taken may be.
	acknowledged := l.snapshot()
	control := r.control.Clone()
	crashed := r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: rand.New(rand.NewPCG(random.Uint64(), 2))})
	close(stop)
	wg.Wait()
	r.close()
	r.fs, r.control = crashed, control
	r.open()
	l.judge(t, r, acknowledged)
}

// ledger is what clients were answered.
type ledger struct {
	mu    sync.Mutex
	sent  map[string]uint64 // text → sequence
	taken map[string]bool   // handed out, whether settled or not
}

func newLedger() *ledger {
	return &ledger{sent: make(map[string]uint64), taken: make(map[string]bool)}
}

func (l *ledger) work(t *testing.T, e *engine.Engine, round, worker int, stop <-chan struct{}) {
	t.Helper()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		text := strconv.Itoa(round) + "." + strconv.Itoa(worker) + "." + strconv.Itoa(n)
		receipt, err := e.Send(draft(t, "u"+strconv.Itoa(n%3), text, messaging.Priority(n%3)), messaging.Once{})
		if err != nil {
			t.Error(err)
			return
		}
		l.mu.Lock()
		l.sent[text] = receipt.Sequence
		l.mu.Unlock()
		if n%5 != 0 {
			continue
		}
		h, err := e.Take(context.Background(), messaging.UserID("u"+strconv.Itoa(n%3)), messaging.TakeOptions{Limit: 3})
		if err != nil {
			t.Error(err)
			return
		}
		l.mu.Lock()
		for _, text := range texts(t, h.Messages) {
			l.taken[text] = true
		}
		l.mu.Unlock()
		h.Settle(n%2 == 0)
	}
}

func (l *ledger) snapshot() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := make(map[string]uint64, len(l.sent))
	maps.Copy(kept, l.sent)
	return kept
}

// judge compares the store with the ledger, and forgets what did not survive
// because it was answered after the crash.
func (l *ledger) judge(t *testing.T, r *rig, acknowledged map[string]uint64) {
	t.Helper()
	r.checkCounts()
	logged := make(map[string]uint64)
	page, next, err := r.log.Read(messaging.Position{Sequence: 1}, 1<<30, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range page {
		if m.Position.Sequence != uint64(i)+1 {
			t.Fatalf("record %d stands at place %d", m.Position.Sequence, i)
		}
		logged[texts(t, page[i:i+1])[0]] = m.Position.Sequence
	}
	if next.Sequence != r.log.Durable()+1 {
		t.Fatalf("reading ended before %d, the log at %d", next.Sequence, r.log.Durable())
	}
	for text, seq := range acknowledged {
		if logged[text] != seq {
			t.Errorf("message %s was acknowledged at %d and is at %d", text, seq, logged[text])
		}
	}
	queued := make(map[string]bool)
	for _, user := range []messaging.UserID{"u0", "u1", "u2"} {
		messages, err := r.engine.Peek(user, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts(t, messages) {
			queued[text] = true
		}
	}
	for text := range acknowledged {
		if !queued[text] && !l.taken[text] {
			t.Errorf("message %s was acknowledged, never handed out, and is in no queue", text)
		}
	}
	l.sent = logged
}

func TestStagedBroadcastThatWasNotCommittedIsRemoved(t *testing.T) {
	r := newRig(t, engine.Config{})
	b := largeBroadcast(t, messaging.ReceiversPerChunk+1)
	for n, chunk := range b.Receivers.Chunks() { // what a crash before the commit point leaves
		batch := r.store.NewBatch()
		batch.PutStage(messaging.MessageID{1})
		batch.PutReceivers(messaging.MessageID{1}, n, chunk)
		batch.Commit()
		batch.Close()
	}
	r.reopen()
	if _, err := r.store.Receivers(messaging.MessageID{1}, 0); err == nil {
		t.Error("receivers of a broadcast that was never committed are still there")
	}
	if stages, err := r.store.Stages(); err != nil || len(stages) != 0 {
		t.Errorf("stages %v (%v)", stages, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.engine.Fanout(ctx); err != nil {
		t.Error(err)
	}
}
