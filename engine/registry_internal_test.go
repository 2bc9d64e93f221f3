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

// TestBroadcastLeavesTheCacheAlone: what is in use stays in memory, and what a
// broadcast alone has touched does not.
func TestBroadcastLeavesTheCacheAlone(t *testing.T) {
	onWorkbench(t, Config{CachedQueues: 64 * 4}, 0, func(w *workbench) {
		w.send("x", "") // to u
		before := w.queues.cached()
		users := []messaging.Receiver{{User: "u"}}
		for i := range 2000 {
			users = append(users, messaging.Receiver{User: messaging.UserID(fmt.Sprint("b", i))})
		}
		places, err := w.pinAll(users)
		if err != nil {
			w.Fatal(err)
		}
		wanted, err := w.queues.pin("b7") // somebody else's, meanwhile
		if err != nil {
			w.Fatal(err)
		}
		w.unpinPlaces(places)
		w.queues.unpin(wanted)
		if n := w.queues.cached(); n != before+1 {
			w.Errorf("%d queues are in memory, want %d: u and b7", n, before+1)
		}
	})
}

// TestBatchKeepsItsQueues: whoever is sent messages in batches is sent more of
// them, and reading a queue's state again costs more than the message.
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
		if _, err := w.SendAll(drafts, messaging.Once{}); err != nil {
			w.Fatal(err)
		}
		if n := w.queues.cached(); n != before+users {
			w.Errorf("%d queues are in memory, want %d", n, before+users)
		}
	})
}
