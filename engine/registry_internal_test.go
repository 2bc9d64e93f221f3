package engine

import (
	"fmt"
	"testing"

	"github.com/stayafrica/messaging"
)

func (r *registry) cached() (n int) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += len(s.queues)
		s.mu.Unlock()
	}
	return n
}

// TestBroadcastDoesNotKeepQueuesInMemory checks that queues in use stay in memory, and queues
// that only a broadcast has used do not.
func TestBroadcastDoesNotKeepQueuesInMemory(t *testing.T) {
	onWorkbench(t, Config{CachedQueues: 64 * 4}, 0, func(w *workbench) {
		w.send("x", "") // to u
		before := w.queues.cached()
		users := []messaging.Receiver{{User: "u"}}
		for i := range 2000 {
			users = append(users, messaging.Receiver{User: messaging.UserID(fmt.Sprint("b", i))})
		}
		candidates, err := w.pinAll(users)
		if err != nil {
			w.Fatal(err)
		}
		wanted, err := w.queues.pin("b7") // another use of b7, at the same time
		if err != nil {
			w.Fatal(err)
		}
		w.unpinTargets(candidates)
		w.queues.unpin(wanted)
		if n := w.queues.cached(); n != before+1 {
			w.Errorf("%d queues are in memory, want %d: u and b7", n, before+1)
		}
	})
}

// TestBatchKeepsItsQueues: receivers of a batch often get another one, and loading a
// queue's state costs more than a message.
func TestBatchKeepsItsQueues(t *testing.T) {
	onWorkbench(t, Config{CachedQueues: 64 * 64}, 0, func(w *workbench) {
		const users = 100
		drafts := make([]messaging.Draft, users)
		for i := range drafts {
			draft, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":"b%d","text":"x"}`, i))
			if err != nil {
				w.Fatal(err)
			}
			drafts[i] = draft
		}
		before := w.queues.cached()
		if _, err := w.SendAll(drafts, messaging.IdempotencyKey{}); err != nil {
			w.Fatal(err)
		}
		if n := w.queues.cached(); n != before+users {
			w.Errorf("%d queues are in memory, want %d", n, before+users)
		}
	})
}
