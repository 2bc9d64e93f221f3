package engine

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// A commit makes at most 256 point reads, even if many messages become due or expire at
// one time.
func TestEventsReadFewKeysInTheirCommit(t *testing.T) {
	for kind, fields := range map[int]string{0: `,"ttl_seconds":60`, 1: `,"delay_seconds":60`} {
		t.Run(fmt.Sprintf("table %c", events[kind]), func(t *testing.T) {
			onWorkbench(t, Config{}, 0, func(w *workbench) {
				for range timerPage {
					w.send("x", fields)
				}
				time.Sleep(2 * time.Minute)
				found, err := w.dueEvents(kind, 0, w.now().UnixMilli(), nil)
				if err != nil || len(found) != timerPage {
					w.Fatalf("%d events (%v)", len(found), err)
				}
				before := w.store.PointReads()
				if _, err := w.commitEvents(kind, found, w.now().UnixMilli()); err != nil {
					w.Fatal(err)
				}
				if reads := w.store.PointReads() - before; reads > 256 {
					w.Errorf("a commit of %d events read %d keys", timerPage, reads)
				}
			})
		})
	}
}

// A redrive into a queue with an unfinished clear blocks no other change of dead letters:
// the drain adds some, and others are deleted, at the same time.
func TestRedriveIntoAClearedQueueBlocksNoOtherDeadLetter(t *testing.T) {
	onWorkbench(t, Config{MaxDeliveries: 1, QueueMax: 1_000_000}, 0, func(w *workbench) {
		const entries = 40 * clearStep
		letter := messaging.DeadLetter{Kind: messaging.Undeliverable, Reason: "r", Attempts: 1, FailedAt: time.Now()}
		w.send("exhausted", "")
		h := w.take(messaging.TakeOptions{Limit: 1})
		letter.Message = h.Messages[0]
		letter.Message.Position = messaging.Position{Sequence: 1}
		letter.Message.Receiver.User = "u"
		h.Finish(true)
		if err := w.letters.AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
			w.Fatal(err)
		}
		for range entries {
			w.send("x", "")
		}
		if n, err := w.Clear("u"); err != nil || n != entries {
			w.Fatal(n, err)
		}
		var results []messaging.RequeueResult
		requeued := make(chan error, 1)
		go func() {
			var err error
			results, err = w.letters.RequeueDeadLetters([]messaging.DeadRecipient{
				{Kind: messaging.Undeliverable, Reason: "r", Message: letter.Message},
			}, messaging.Progress{})
			requeued <- err
		}()
		for len(w.letters.changing) == 0 && len(requeued) == 0 {
			time.Sleep(0)
		}
		other := letter
		other.Kind = messaging.Refused
		if err := w.letters.AddDeadLetters([]messaging.DeadLetter{other}, messaging.Progress{}); err != nil {
			w.Fatal(err)
		}
		left := 0
		if err := w.store.Entries(storage.Queued, "u", messaging.Normal, 0, math.MaxUint64, func(uint64, storage.Entry) bool { left++; return true }); err != nil {
			w.Fatal(err)
		}
		if waited := entries - left; waited > clearsAwaited*clearStep {
			w.Errorf("the drain's dead letter was written when %d of %d cleared entries were left: it waited for the clear", left, entries)
		}
		if err := <-requeued; err != nil {
			w.Fatal(err)
		}
		// However many clears there are, the redrive waits for a bounded number of steps.
		if w.letters.Count(messaging.Undeliverable) != 1 || results[0].Refusal == "" {
			w.Errorf("the redrive returned %+v, and %d dead letters are left; want a refusal, and the letter kept", results[0], w.letters.Count(messaging.Undeliverable))
		}
	})
}

// A queue that is far over its limit, because the limit was lowered, evicts a bounded
// number of messages per commit.
func TestALoweredQueueLimitIsReachedInBoundedCommits(t *testing.T) {
	const entries = 20_000
	onWorkbench(t, Config{QueueMax: entries}, 0, func(w *workbench) {
		for range entries {
			w.send("x", "")
		}
		w.config.QueueMax = 10 // like a start with another MESSAGE_QUEUE_MAX_SIZE
		w.send("y", "")
		if n := w.counters.evicted.Load(); n > 10*1024 {
			w.Errorf("one send removed %d messages in its commit", n)
		}
	})
}

func TestSweptKeysAreReadOutsideOfTheirCommit(t *testing.T) {
	onWorkbench(t, Config{IdempotencyWindow: time.Hour}, 0, func(w *workbench) {
		d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"x"}`))
		if err != nil {
			w.Fatal(err)
		}
		for i := range sweepPage {
			if _, err := w.Send(d, messaging.IdempotencyKey{Key: fmt.Sprint("key", i)}); err != nil {
				w.Fatal(err)
			}
		}
		time.Sleep(2 * time.Hour)
		before := w.store.PointReads()
		c, err := w.sweepPage(0, w.now().UnixMilli())
		if err != nil || c == nil || len(c.ends) != sweepPage {
			w.Fatalf("%+v (%v)", c, err)
		}
		if reads := w.store.PointReads() - before; reads > 0 { // the page is read from a snapshot
			w.Errorf("a commit that removes %d keys read %d", sweepPage, reads)
		}
	})
}
