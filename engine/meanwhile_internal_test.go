package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// A page that takes several commits ends at the first that finds a message due later.
func TestRetentionLeavesWhatIsDueLaterAlsoWhereAPageTakesSeveralCommits(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		later := w.send("later", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Settle(true)
		users := make([]string, messaging.ReceiversPerChunk)
		for i := range users {
			users[i] = fmt.Sprintf(`"r%d"`, i)
		}
		b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"all"},"user_ids":[` + strings.Join(users, ",") + `]}`))
		if err != nil {
			w.Fatal(err)
		}
		all, err := w.Broadcast(b, messaging.Once{})
		if err != nil {
			w.Fatal(err)
		}
		w.together(
			func() { _, _ = w.Reject("u", []string{h.Messages[0].Receipt}, time.Hour) },
			func() {
				if err := w.trimPage(later.Sequence, all.Sequence+1); !errors.Is(err, errDueLater) {
					w.Error(err)
				}
			},
		)
		if floor := w.log.Floor(); floor > later.Sequence {
			w.Errorf("the floor is %d: retention has passed message %d, which is due later", floor, later.Sequence)
		}
	})
}

// Either retention sees what comes back, or it is told that it is too late.
func TestRetentionLeavesWhatIsRedrivenMeanwhile(t *testing.T) {
	onWorkbench(t, Config{Retention: time.Hour}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1})
		h.Settle(true)
		m := h.Messages[0]
		m.Receiver.User = "u"
		time.Sleep(2 * time.Hour)
		refusal := ""
		w.together(
			func() { refusal, _ = w.Requeue(&m, nothingToSettle) },
			func() {
				if _, err := w.Trim(context.Background()); err != nil {
					w.Error(err)
				}
			},
		)
		if refusal == "" { // its dead letter goes: the queue must have it
			w.want(w.take(messaging.TakeOptions{Limit: 1}), "x")
		}
	})
}

func TestRetentionSeesWhatBecomesDueWhileItLooks(t *testing.T) { // invariant 6
	missed := 0
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		for range 200 {
			r := w.send("later", `,"delay_seconds":60`)
			var due int64
			_ = w.store.Timers(storage.Due, 0, 1<<62, func(t storage.Timer, _ messaging.Priority) bool { due = t.At; return false })
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = w.commitEvents(1, []event{{timer: storage.Timer{At: due, Sequence: r.Sequence, User: "u"}, priority: messaging.Normal}}, due)
			}()
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
				}
				tr := &trimmer{engine: w.Engine, change: &trimChange{engine: w.Engine}}
				if err := tr.drop(r.Sequence, messaging.Normal, "u"); err == nil && len(tr.change.drops) == 0 {
					missed++
				}
				tr.unpin()
			}
			_, _ = w.Clear("u")
		}
	})
	if missed > 0 {
		t.Errorf("retention did not see an entry that is there %d times", missed)
	}
}

// Expiry wakes nobody, so whoever finds all of a page gone must look again.
func TestLookWhosePageExpiredMeanwhileLooksFurther(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		old := w.send("old", `,"ttl_seconds":60`)
		w.send("new", "")
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		defer w.queues.unpin(q)
		r := q.beginRead(w.log, 10)
		pg, err := w.readPage(q, r, 1)
		if err != nil {
			w.Fatal(err)
		}
		time.Sleep(61 * time.Second)
		var due int64
		if err := w.store.Timers(storage.Expiry, 0, 1<<62, func(t storage.Timer, _ messaging.Priority) bool { due = t.At; return false }); err != nil {
			w.Fatal(err)
		}
		if err := w.commitEvents(0, []event{{timer: storage.Timer{At: due, Sequence: old.Sequence, User: "u"}, priority: messaging.Normal}}, due); err != nil {
			w.Fatal(err)
		}
		found, again := w.endRead(q, r, pg, true, true)
		if len(found) == 0 && !again {
			w.Error("the look found nothing and ends, beside a message")
		}
		if sleeper := newWaiter(); len(found) == 0 && !again && q.join(sleeper, r.news, true) {
			w.Error("and a waiter sleeps beside it")
		}
	})
}

// A look that stops among the expired has not seen what is behind them.
func TestHighPriorityGoesFirstAlsoBehindWhatExpired(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		drafts := make([]messaging.Draft, 0, maxPassedOver)
		for range maxPassedOver {
			d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"old","priority":"high","ttl_seconds":1}`))
			if err != nil {
				w.Fatal(err)
			}
			drafts = append(drafts, d)
		}
		if _, err := w.SendAll(drafts, messaging.Once{}); err != nil {
			w.Fatal(err)
		}
		w.send("normal", "")
		w.send("high", `,"priority":"high"`)
		time.Sleep(2 * time.Second)
		w.want(w.take(messaging.TakeOptions{Limit: 1}), "high")
	})
}

// What a clear removed and what came back since are told apart, also for as long as
// a reader keeps the clear in mind.
func TestWhatCameBackAfterAClearStandsWhileAReaderLooks(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1})
		h.Settle(true)
		synctest.Wait()
		m := h.Messages[0]
		m.Receiver.User = "u"
		w.send("y", "")
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		defer w.queues.unpin(q)
		r := q.beginRead(w.log, 10)
		if _, err := w.Clear("u"); err != nil {
			w.Fatal(err)
		}
		for range 2 {
			if refusal, err := w.Requeue(&m, nothingToSettle); refusal != "" || err != nil {
				w.Fatal(refusal, err)
			}
		}
		w.endRead(q, r, &page{}, true, true)
		w.wantCounts(1, 0)
	})
}

// A crash may leave the dead letter and the entry; a redrive then makes it as new.
func TestRedriveAfterABurialThatWasCutOffDelivers(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Settle(true)
		m := h.Messages[0]
		m.Receiver.User = "u"
		// As after a restart: delivered as often as it may be, in the queue, nobody has it.
		q, _ := w.queues.pin("u")
		q.mu.Lock()
		w.endLease(q.out[m.Position.Sequence].lease)
		q.giveBackLocked(m.Position.Sequence)
		q.mu.Unlock()
		w.queues.unpin(q)
		if refusal, err := w.Requeue(&m, nothingToSettle); refusal != "" || err != nil {
			w.Fatal(refusal, err)
		}
		w.want(w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute}), "x")
	})
}

func TestReadersWithALeaseAreBoundedWhileTheDiskIsStuck(t *testing.T) { // invariant 8
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		const readers, each = 16, 8
		body := strings.Repeat("y", 1_000_000)
		for i := range readers * each {
			d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":"v%d","text":"x","y":"%s"}`, i%readers, body))
			if err != nil {
				w.Fatal(err)
			}
			if _, err := w.Send(d, messaging.Once{}); err != nil {
				w.Fatal(err)
			}
		}
		refused := 0
		var lock sync.Mutex
		takes := make([]func(), readers)
		for i := range takes {
			takes[i] = func() {
				_, err := w.Take(context.Background(), messaging.UserID(fmt.Sprint("v", i)), messaging.TakeOptions{Limit: each, Lease: time.Minute})
				lock.Lock()
				defer lock.Unlock()
				if messaging.CodeOf(err) == messaging.CodeOverloaded {
					refused++
				}
			}
		}
		w.together(takes...)
		if refused == 0 {
			w.Errorf("%d MB of messages wait in memory for the disk, and nobody was refused", readers*each)
		}
	})
}

func TestAClockThatWasSetIsLogged(t *testing.T) {
	var logged strings.Builder
	ahead := time.Duration(0)
	onWorkbench(t, Config{Now: func() time.Time { return time.Now().Add(ahead) }, Logger: slog.New(slog.NewTextHandler(&logged, nil))}, 0, func(w *workbench) {
		ahead = time.Hour
		w.take(messaging.TakeOptions{Limit: 1}) // whoever looks at the clock first
		if _, err := w.Trim(context.Background()); err != nil {
			w.Error(err)
		}
		if !strings.Contains(logged.String(), "the clock was set") {
			w.Error("nobody is told that the clock was set")
		}
	})
}
