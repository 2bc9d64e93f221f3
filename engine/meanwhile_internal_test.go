package engine

import (
	"context"
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

// A message that is nacked with a delay after the trimmer has read its entries keeps its
// record, even if the broadcast after it takes several commits.
func TestRetentionKeepsADelayedMessageWhenAPageTakesSeveralCommits(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		later := w.send("later", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Finish(true)
		users := make([]string, messaging.ReceiversPerChunk)
		for i := range users {
			users[i] = fmt.Sprintf(`"r%d"`, i)
		}
		b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"all"},"user_ids":[` + strings.Join(users, ",") + `]}`))
		if err != nil {
			w.Fatal(err)
		}
		all, err := w.Broadcast(b, messaging.IdempotencyKey{})
		if err != nil {
			w.Fatal(err)
		}
		w.together(
			func() { _, _ = w.Nack("u", []string{h.Messages[0].Receipt}, time.Hour) },
			func() {
				if err := w.trimAge(later.Sequence, all.Sequence+1); err != nil {
					w.Error(err)
				}
			},
		)
		if first := w.log.FirstSequence(); first > later.Sequence {
			w.Errorf("the first sequence is %d: retention has trimmed message %d, which is due later", first, later.Sequence)
		}
	})
}

// A redrive and a trim share a commit. By age, the one that is staged first wins. On a
// full disk the dead letter keeps the message.
func TestATrimAndARedriveInOneCommit(t *testing.T) {
	for name, early := range map[string]bool{"age": false, "full disk": true} {
		for order, redriveFirst := range map[string]bool{"redrive first": true, "trim first": false} {
			t.Run(name+"/"+order, func(t *testing.T) {
				onWorkbench(t, Config{}, 0, func(w *workbench) {
					first := w.send("later", `,"delay_seconds":60`) // stays, and so does the first sequence
					x := w.send("x", "")
					h := w.take(messaging.TakeOptions{Limit: 1})
					h.Finish(true)
					m := h.Messages[0]
					w.deadLetter(&m)
					w.trimmer.age.begin(first.Sequence)
					r := &trimRun{trimmer: w.trimmer, policy: &w.trimmer.age}
					if early {
						r.policy, w.trimmer.early.free = &w.trimmer.early, first.Sequence
					}
					p, err := r.prepare(span{first.Sequence, x.Sequence + 1})
					if err != nil {
						w.Fatal(err)
					}
					refusal := ""
					moves := []func(){
						func() { refusal = w.redrive(&m).Refusal },
						func() {
							if _, err := r.commit(p); err != nil {
								w.Error(err)
							}
						},
					}
					if !redriveFirst {
						moves[0], moves[1] = moves[1], moves[0]
					}
					w.together(moves...)
					r.unpinDrops(p.items)
					back := redriveFirst || early
					if (refusal == "") != back {
						w.Errorf("the redrive returned %q", refusal)
					}
					if problem := w.missing(); problem != "" {
						w.Error(problem)
					}
					if back {
						w.want(w.take(messaging.TakeOptions{Limit: 1}), "x")
					}
				})
			})
		}
	}
}

// A message that becomes due while the trimmer reads moves to the other index. Either the
// trimmer finds it in one of them, or the journal has it as enqueued.
func TestRetentionKeepsAMessageThatBecomesDueDuringIt(t *testing.T) { // invariant 6
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		for range 200 {
			r := w.send("later", `,"delay_seconds":60`)
			var due int64
			_ = w.store.Timers(storage.Due, 0, 1<<62, func(t storage.Timer, _ messaging.Priority) bool { due = t.At; return false })
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = w.commitEvents(1, []event{{timer: storage.Timer{At: due, Sequence: r.Sequence, User: "u"}, priority: messaging.Normal}}, due)
			}()
			if err := w.trimAge(r.Sequence, r.Sequence+1); err != nil {
				w.Error(err)
			}
			<-done
			if err := w.missing(); err != "" {
				w.Error(err)
			}
			_, _ = w.Clear("u")
		}
	})
}

// Expiry wakes no waiter, so a scan whose whole batch has expired must be repeated.
func TestScanWhoseBatchExpiredIsRepeated(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		old := w.send("old", `,"ttl_seconds":60`)
		w.send("new", "")
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		defer w.queues.unpin(q)
		r := q.beginScan(w.log, 10)
		b, err := w.readBatch(q, r, 1)
		if err != nil {
			w.Fatal(err)
		}
		time.Sleep(61 * time.Second)
		var due int64
		if err := w.store.Timers(storage.Expiry, 0, 1<<62, func(t storage.Timer, _ messaging.Priority) bool { due = t.At; return false }); err != nil {
			w.Fatal(err)
		}
		if _, err := w.commitEvents(0, []event{{timer: storage.Timer{At: due, Sequence: old.Sequence, User: "u"}, priority: messaging.Normal}}, due); err != nil {
			w.Fatal(err)
		}
		found, again := w.endScan(q, r, b, true, true)
		if len(found) == 0 && !again {
			w.Error("the scan found nothing, although there is a message")
		}
		if sleeper := newWaiter(); len(found) == 0 && !again && q.join(sleeper, r.version, true) {
			w.Error("a waiter waits, although there is a message")
		}
	})
}

// A scan that stops among expired entries has not seen the entries after them.
func TestHighPriorityIsFirstAlsoAfterExpiredOnes(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		drafts := make([]messaging.Draft, 0, maxSkipped)
		for range maxSkipped {
			d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"old","priority":"high","ttl_seconds":1}`))
			if err != nil {
				w.Fatal(err)
			}
			drafts = append(drafts, d)
		}
		if _, err := w.SendAll(drafts, messaging.IdempotencyKey{}); err != nil {
			w.Fatal(err)
		}
		w.send("normal", "")
		w.send("high", `,"priority":"high"`)
		time.Sleep(2 * time.Second)
		w.want(w.take(messaging.TakeOptions{Limit: 1}), "high")
	})
}

// An entry that a clear removed and an entry that was requeued since are distinguished,
// even while a reader still knows of the clear.
func TestRequeuedMessageAfterAClearStaysDuringAScan(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1})
		h.Finish(true)
		synctest.Wait()
		m := h.Messages[0]
		w.send("y", "")
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		defer w.queues.unpin(q)
		r := q.beginScan(w.log, 10)
		if _, err := w.Clear("u"); err != nil {
			w.Fatal(err)
		}
		for range 2 {
			w.deadLetter(&m)
			if result := w.redrive(&m); result != (messaging.RequeueResult{}) {
				w.Fatal(result)
			}
		}
		w.endScan(q, r, &batch{}, true, true)
		w.wantCounts(1, 0)
	})
}

// In format 1 a crash could leave both the dead letter and the entry. A redrive then
// resets the entry.
func TestRedriveOfAQueuedMessageDelivers(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1}, 0, func(w *workbench) {
		w.send("x", "")
		h := w.take(messaging.TakeOptions{Limit: 1, Lease: time.Minute})
		h.Finish(true)
		m := h.Messages[0]
		m.Receiver.User = "u"
		// As after a restart: the message is exhausted, in the queue, and not claimed.
		q, _ := w.queues.pin("u")
		q.mu.Lock()
		w.endLease(q.claimed[m.Position.Sequence].lease)
		q.requeueLocked(m.Position.Sequence)
		q.mu.Unlock()
		w.queues.unpin(q)
		w.deadLetter(&m)
		if result := w.redrive(&m); result != (messaging.RequeueResult{}) {
			w.Fatal(result)
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
			if _, err := w.Send(d, messaging.IdempotencyKey{}); err != nil {
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
			w.Errorf("%d MB of messages wait in memory for the disk, and no take was refused", readers*each)
		}
	})
}

func TestAClockThatWasSetIsLogged(t *testing.T) {
	var logged strings.Builder
	ahead := time.Duration(0)
	onWorkbench(t, Config{Now: func() time.Time { return time.Now().Add(ahead) }, Logger: slog.New(slog.NewTextHandler(&logged, nil))}, 0, func(w *workbench) {
		ahead = time.Hour
		w.take(messaging.TakeOptions{Limit: 1}) // reads the clock first
		if _, err := w.Trim(context.Background()); err != nil {
			w.Error(err)
		}
		if !strings.Contains(logged.String(), "the clock was set") {
			w.Error("no log line reports that the clock was set")
		}
	})
}
