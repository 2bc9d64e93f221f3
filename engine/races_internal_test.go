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
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/wal"
)

// workbench is an engine in a bubble whose committer can be blocked, so that selected
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
		closed := log.Close()
		for _, p := range fsck.Check(store.Reader, wal.Codec()).Problems {
			t.Errorf("%s: %s", p.Where, p.What)
		}
		if err := errors.Join(closed, store.Close()); err != nil {
			t.Error(err)
		}
	})
}

// blocking blocks the committer until it is closed.
type blocking chan struct{}

func (b blocking) Records() []wal.Record { return nil }
func (b blocking) Stage(*wal.Tx)         { <-b }
func (b blocking) OnDurable()            {}

// together makes changes that share a commit: it starts each, in this order, while the
// committer is blocked.
func (w *workbench) together(changes ...func()) {
	w.Helper()
	hold := make(blocking)
	if err := w.log.CommitAsync(hold); err != nil {
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

func (w *workbench) send(text, fields string) messaging.SendResult {
	w.Helper()
	d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"` + text + `"` + fields + `}`))
	if err != nil {
		w.Fatal(err)
	}
	receipt, err := w.Send(d, messaging.IdempotencyKey{})
	if err != nil {
		w.Errorf("send: %v", err)
	}
	return receipt
}

func (w *workbench) take(o messaging.TakeOptions) messaging.Delivery {
	w.Helper()
	h, err := w.Take(context.Background(), "u", o)
	if err != nil {
		w.Fatalf("take: %v", err)
	}
	return h
}

func (w *workbench) want(h messaging.Delivery, want ...string) {
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

// wantCounts compares the counts with the entries on disk.
func (w *workbench) wantCounts(queued, delayed uint64) {
	w.Helper()
	var onDisk [2]uint64
	for i, index := range []storage.Index{storage.Queued, storage.Delayed} {
		if err := w.store.AllEntries(index, func(messaging.UserID, messaging.Priority, uint64) bool { onDisk[i]++; return true }); err != nil {
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
				_, err := w.commitEvents(1, []event{{timer: storage.Timer{At: due, Sequence: old.Sequence, User: "u"}, priority: messaging.Normal}}, due)
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
				if err := w.trimAge(old.Sequence, old.Sequence+1); err != nil {
					w.Error(err)
				}
			},
		)
		w.wantCounts(1, 0)
		w.want(w.take(messaging.TakeOptions{Limit: 10}), "new")
	})
}

func TestReaderThatBeganBeforeAPublishGetsTheMessage(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		defer w.queues.unpin(q)
		before := q.beginScan(w.log, 10)
		w.send("x", "")
		b, err := w.readBatch(q, before, 10)
		found, _ := w.endScan(q, before, b, err == nil, true)
		if sleeper := newWaiter(); len(found) == 0 && q.join(sleeper, before.version, true) {
			w.Error("the reader found nothing and waits, although there is a message")
		}
	})
}

func TestClearedMessageIsNoDeadLetter(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Finish(true)
		if _, err := w.Nack("u", []string{h.Messages[0].Receipt}, 0); err != nil {
			w.Fatal(err)
		}
		if n, err := w.Clear("u"); n != 1 || err != nil {
			w.Fatal(n, err)
		}
		for waiting := w.exhausted.take(); len(waiting) > 0; {
			var err error
			if waiting, err = w.deadLetterSome(waiting); err != nil {
				w.Fatal(err)
			}
		}
		if n := w.letters.Count(messaging.Undeliverable); n != 0 {
			w.Errorf("%d dead letters", n)
		}
	})
}

// unpublished is a change whose commit is durable and not published yet.
type unpublished chan struct{}

func (u unpublished) Records() []wal.Record { return nil }
func (u unpublished) Stage(*wal.Tx)         {}
func (u unpublished) OnDurable()            { <-u }

// The trimmer sees a dead letter as soon as its message has left the queue.
func TestTheTrimmerSeesADeadLetterWhoseCommitIsNotPublished(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1}, 0, func(w *workbench) {
		sent := w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Finish(true)
		if _, err := w.Nack("u", []string{h.Messages[0].Receipt}, 0); err != nil {
			w.Fatal(err)
		}
		hold := make(unpublished)
		w.together(
			func() { _ = w.log.CommitAsync(hold) },
			func() {
				if _, err := w.deadLetterSome(w.exhausted.take()); err != nil {
					w.Error(err)
				}
			},
		)
		_, _, queued, err := w.diskEntry("u", messaging.Normal, sent.Sequence)
		held, letterErr := w.letters.undeliverableIn(sent.Sequence, sent.Sequence+1)
		if err = errors.Join(err, letterErr); err != nil || queued || !held[sent.Sequence] {
			w.Errorf("in its queue %t, a dead letter %t (%v): the trimmer would take its record", queued, held[sent.Sequence], err)
		}
		close(hold)
		synctest.Wait()
	})
}

func TestRequeuedMessageIsFirstAlsoAfterExpiredOnes(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("1", `,"ttl_seconds":1`)
		w.send("2", `,"ttl_seconds":1`)
		w.send("3", "")
		w.send("4", "")
		w.take(messaging.TakeOptions{Limit: 3}).Finish(false)
		time.Sleep(2 * time.Second) // no schedule runs here, so the expired ones are still there
		w.want(w.take(messaging.TakeOptions{Limit: 1}), "3")
	})
}

func TestServicesWaitForABusyDiskInsteadOfFailing(t *testing.T) {
	onWorkbench(t, Config{}, 4, func(w *workbench) {
		w.send("due", `,"delay_seconds":1`)
		hold := make(blocking)
		if err := w.log.CommitAsync(hold); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		for range 4 {
			if err := w.log.CommitAsync(make(blocking, 1).done()); err != nil {
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

// done returns a blocking that does not block.
func (b blocking) done() blocking { close(b); return b }

func TestLeasesAreBounded(t *testing.T) {
	onWorkbench(t, Config{MaxLeases: 3}, 0, func(w *workbench) {
		for range 5 {
			w.send("x", "")
		}
		w.take(messaging.TakeOptions{Limit: 3, Lease: time.Minute}).Finish(true)
		if _, err := w.Take(context.Background(), "u", messaging.TakeOptions{Limit: 1, Lease: time.Minute}); messaging.CodeOf(err) != messaging.CodeTooManyRequests {
			w.Errorf("one lease above the limit: %v", err)
		}
		w.want(w.take(messaging.TakeOptions{Limit: 5}), "x", "x")
	})
}

func TestDeadLettersAreKeptForTheirTime(t *testing.T) {
	onWorkbench(t, Config{DeadLetterRetention: 24 * time.Hour}, 0, func(w *workbench) {
		letter := messaging.DeadLetter{ID: messaging.DeadLetterID(messaging.Refused, messaging.MessageID{1}), Kind: messaging.Refused, FailedAt: time.Now()}
		letter.Message.ID, letter.Message.Receiver.User, letter.Message.Position.Sequence = messaging.MessageID{1}, "u", 1
		if err := w.letters.AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.SweepDeadLetters(ctx) }()
		for _, want := range []uint64{1, 0} {
			time.Sleep(23 * time.Hour)
			synctest.Wait()
			if n := w.letters.Count(messaging.Refused); n != want {
				w.Errorf("%d are kept, want %d", n, want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	})
}

// deadLetter makes a dead letter of a message that was delivered to "u".
func (w *workbench) deadLetter(m *messaging.Message) {
	w.Helper()
	m.Receiver.User = "u"
	letter := messaging.DeadLetter{
		ID: messaging.DeadLetterID(messaging.Undeliverable, m.ID), Kind: messaging.Undeliverable, Reason: "nobody acknowledged it",
		FailedAt: time.Now(), Message: *m,
	}
	if err := w.letters.AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
		w.Fatal(err)
	}
}

// redrive requeues the message of that dead letter.
func (w *workbench) redrive(m *messaging.Message) messaging.RequeueResult {
	w.Helper()
	recipient := messaging.DeadRecipient{Kind: messaging.Undeliverable, Reason: "nobody acknowledged it", Message: *m}
	results, err := w.letters.RequeueDeadLetters([]messaging.DeadRecipient{recipient}, messaging.Progress{})
	if err != nil {
		w.Fatal(err)
	}
	return results[0]
}
