package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// bench is an engine in a bubble whose committer can be held up, so that chosen
// changes share a commit.
type workbench struct {
	*testing.T
	*Engine
}

func onWorkbench(t *testing.T, c Config, pending int, test func(w *workbench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, err := storage.Open(storage.Config{Dir: "/data", FS: vfs.NewMem(), Control: storage.NewMemoryControl().Open, MemTableBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		log, err := wal.Open(wal.Config{Store: store, MaxPending: pending})
		if err != nil {
			t.Fatal(err)
		}
		c.Store, c.Log = store, log
		e, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		test(&workbench{t, e})
		if err := errors.Join(log.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
}

// blocking holds the committer up until it is closed.
type blocking chan struct{}

func (b blocking) Records() []wal.Record { return nil }
func (b blocking) Stage(*wal.Tx)         { <-b }
func (b blocking) Published()            {}

// together makes changes that share a commit: each is started, in this order,
// while the committer is held up.
func (w *workbench) together(changes ...func()) {
	w.Helper()
	hold := make(blocking)
	if err := w.log.Enqueue(hold); err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
	for _, change := range changes {
		go change()
		synctest.Wait()
	}
	close(hold)
	synctest.Wait()
}

func (w *workbench) send(text, fields string) messaging.Receipt {
	w.Helper()
	d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"` + text + `"` + fields + `}`))
	if err != nil {
		w.Fatal(err)
	}
	receipt, err := w.Send(d, messaging.Once{})
	if err != nil {
		w.Errorf("send: %v", err)
	}
	return receipt
}

func (w *workbench) take(o messaging.TakeOptions) messaging.Handout {
	w.Helper()
	h, err := w.Take(context.Background(), "u", o)
	if err != nil {
		w.Fatalf("take: %v", err)
	}
	return h
}

func (w *workbench) want(h messaging.Handout, want ...string) {
	w.Helper()
	var got []string
	for i := range h.Messages {
		_, rest, _ := strings.Cut(string(h.Messages[i].Body), `"text":"`)
		text, _, _ := strings.Cut(rest, `"`)
		got = append(got, text)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.Errorf("got %v, want %v", got, want)
	}
}

// wantCounts compares what is counted with what is on disk.
func (w *workbench) wantCounts(queued, delayed uint64) {
	w.Helper()
	var onDisk [2]uint64
	for i, shelf := range []storage.Shelf{storage.Queued, storage.Delayed} {
		if err := w.store.AllEntries(shelf, func(messaging.UserID, messaging.Priority, uint64) bool { onDisk[i]++; return true }); err != nil {
			w.Fatal(err)
		}
	}
	counts, err := w.Size("u")
	if err != nil {
		w.Fatal(err)
	}
	if onDisk != [2]uint64{queued, delayed} || counts.Normal != queued || counts.Delayed != delayed || uint64(w.log.Queued()) != queued+delayed {
		w.Errorf("on disk %v, counted %+v and %d; want %d and %d", onDisk, counts, w.log.Queued(), queued, delayed)
	}
}

func TestClearSharesACommitWithADueEventAndASend(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		old := w.send("old", `,"delay_seconds":60`)
		var due int64
		if err := w.store.Timers(storage.Due, 0, 1<<62, func(t storage.Timer, _ messaging.Priority) bool { due = t.At; return false }); err != nil {
			w.Fatal(err)
		}
		w.together(
			func() { _, _ = w.Clear("u") },
			func() { w.send("new", `,"delay_seconds":3600`) },
			func() {
				err := w.commitEvents(1, []event{{timer: storage.Timer{At: due, Sequence: old.Sequence, User: "u"}, priority: messaging.Normal}}, due)
				if err != nil {
					w.Error(err)
				}
			},
		)
		w.wantCounts(0, 1)
		w.want(w.take(messaging.TakeOptions{Limit: 10}))
	})
}

func TestClearSharesACommitWithRetentionAndASend(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		old := w.send("old", "")
		w.together(
			func() { _, _ = w.Clear("u") },
			func() { w.send("new", "") },
			func() {
				if err := w.trimPage(old.Sequence, old.Sequence+1); err != nil {
					w.Error(err)
				}
			},
		)
		w.wantCounts(1, 0)
		w.want(w.take(messaging.TakeOptions{Limit: 10}), "new")
	})
}

func TestReaderThatBeganBesideAPublishedMessageDoesNotSleepBesideIt(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		defer w.queues.unpin(q)
		before := q.beginRead(w.log, 10)
		w.send("x", "")
		pg, err := w.readPage(q, before, 10)
		found, _ := w.endRead(q, before, pg, err == nil, true)
		if sleeper := newWaiter(); len(found) == 0 && q.join(sleeper, before.news, true) {
			w.Error("it found nothing and sleeps beside a message")
		}
	})
}

func TestRedriveMeetsItsMessageOnTheWayOut(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Settle(true)
		if _, err := w.Reject("u", []string{h.Messages[0].Receipt}, 0); err != nil {
			w.Fatal(err)
		}
		m := h.Messages[0]
		m.Receiver.User = "u"
		doomed := w.burials.take()[0]
		if refusal, err := w.Requeue(&m, nothingToSettle); refusal != "" || err != nil {
			w.Fatal(refusal, err)
		}
		if err := w.log.Commit(&takeChange{engine: w.Engine, queue: doomed.queue, found: doomed.doomed}); err != nil {
			w.Fatal(err)
		}
		w.wantCounts(1, 0)
		again := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		w.want(again, "x")
		if again.Messages[0].Deliveries != 1 {
			w.Errorf("%d deliveries, want 1", again.Messages[0].Deliveries)
		}
	})
}

func TestClearedMessageIsNoDeadLetter(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Settle(true)
		if _, err := w.Reject("u", []string{h.Messages[0].Receipt}, 0); err != nil {
			w.Fatal(err)
		}
		if n, err := w.Clear("u"); n != 1 || err != nil {
			w.Fatal(n, err)
		}
		for _, b := range w.burials.take() {
			if err := w.buryOne(b); err != nil {
				w.Fatal(err)
			}
		}
		if n := w.store.Control().DeadLetters(messaging.Undeliverable); n != 0 {
			w.Errorf("%d dead letters", n)
		}
	})
}

func TestWhatCameBackGoesFirstAlsoBehindWhatExpired(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("1", `,"ttl_seconds":1`)
		w.send("2", `,"ttl_seconds":1`)
		w.send("3", "")
		w.send("4", "")
		w.take(messaging.TakeOptions{Limit: 3}).Settle(false)
		time.Sleep(2 * time.Second) // nobody runs the schedule here: they are expired and still there
		w.want(w.take(messaging.TakeOptions{Limit: 1}), "3")
	})
}

func TestServicesWaitForABusyDiskInsteadOfFailing(t *testing.T) {
	onWorkbench(t, Config{}, 4, func(w *workbench) {
		w.send("due", `,"delay_seconds":1`)
		hold := make(blocking)
		if err := w.log.Enqueue(hold); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		for range 4 {
			if err := w.log.Enqueue(make(blocking, 1).done()); err != nil {
				w.Fatal(err)
			}
		}
		if _, err := w.Take(context.Background(), "u", messaging.TakeOptions{Limit: 1}); messaging.CodeOf(err) != messaging.CodeOverloaded {
			w.Errorf("a take beside a full disk queue: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.Schedule(ctx) }()
		time.Sleep(3 * time.Second)
		close(hold)
		synctest.Wait()
		w.want(w.take(messaging.TakeOptions{Limit: 1}), "due")
		cancel()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	})
}

// done gives a blocking that does not block.
func (b blocking) done() blocking { close(b); return b }

func TestLeasesAreBounded(t *testing.T) {
	onWorkbench(t, Config{MaxLeases: 3}, 0, func(w *workbench) {
		for range 5 {
			w.send("x", "")
		}
		w.take(messaging.TakeOptions{Limit: 3, Lease: time.Minute}).Settle(true)
		if _, err := w.Take(context.Background(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Minute}); messaging.CodeOf(err) != messaging.CodeTooManyRequests {
			w.Errorf("one more: %v", err)
		}
		w.want(w.take(messaging.TakeOptions{Limit: 5}), "x", "x")
	})
}

func TestDeadLettersAreKeptForTheirTime(t *testing.T) {
	onWorkbench(t, Config{DeadLetterRetention: 24 * time.Hour}, 0, func(w *workbench) {
		letter := messaging.DeadLetter{ID: messaging.DeadLetterID(messaging.Refused, messaging.MessageID{1}), Kind: messaging.Refused, FailedAt: time.Now()}
		letter.Message.Receiver.User = "u"
		if err := w.store.Control().AddDeadLetters([]messaging.DeadLetter{letter}); err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.SweepDeadLetters(ctx) }()
		for _, want := range []uint64{1, 0} {
			time.Sleep(23 * time.Hour)
			synctest.Wait()
			if n := w.store.Control().DeadLetters(messaging.Refused); n != want {
				w.Errorf("%d are kept, want %d", n, want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	})
}

// nothingToSettle is for redrives of what has no dead letter.
func nothingToSettle() error { return nil }
