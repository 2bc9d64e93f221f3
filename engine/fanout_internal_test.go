package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

func (w *workbench) broadcastTo(prefix string, n int) messaging.SendResult {
	w.Helper()
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf(`"%s%d"`, prefix, i)
	}
	b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"all"},"user_ids":[` + strings.Join(users, ",") + `]}`))
	if err != nil {
		w.Fatal(err)
	}
	receipt, err := w.Broadcast(b, messaging.IdempotencyKey{})
	if err != nil {
		w.Fatal(err)
	}
	return receipt
}

// Fan-outs take turns: a small one that arrives during a large one is in all of its queues
// before the large one continues.
func TestFanoutsTakeTurnsSmallestRemainingFirst(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		large := w.broadcastTo("l", 3*messaging.ReceiversPerChunk).Sequence
		var turns []uint64
		var chunk fanoutChunk
		step := func() bool {
			job, ok := w.pendingFanouts.next(w.log.Durable())
			if !ok {
				return false
			}
			if err := w.fanoutStep(t.Context(), job, &chunk); err != nil {
				w.Fatal(err)
			}
			turns = append(turns, job.Sequence)
			return true
		}
		for range 10 {
			step()
		}
		first := w.broadcastTo("a", messaging.ReceiversPerChunk+200).Sequence
		second := w.broadcastTo("b", messaging.ReceiversPerChunk+200).Sequence // as large, so after it
		smaller := w.broadcastTo("c", messaging.ReceiversPerChunk+1).Sequence
		for step() {
		}
		order := slices.Compact(turns)
		if want := []uint64{large, smaller, first, second, large}; !slices.Equal(order, want) {
			t.Errorf("the turns are %v, want %v", order, want)
		}
		if queued := w.log.Queued(); queued != 6*messaging.ReceiversPerChunk+401 {
			t.Errorf("%d entries are in queues", queued)
		}
		if jobs, err := w.store.Fanouts(); err != nil || len(jobs) != 0 {
			t.Errorf("fan-outs %v are left (%v)", jobs, err)
		}
	})
}

// The order is by remaining receivers. A broadcast that is not durable yet has no turn.
func TestFanoutTurnIsByWhatRemains(t *testing.T) {
	var u fanoutJobs
	u.add(storage.Fanout{Sequence: 1, Next: 900}, 1000)
	u.add(storage.Fanout{Sequence: 2}, 200)
	u.add(storage.Fanout{Sequence: 3}, 50)
	if job, ok := u.next(2); !ok || job.Sequence != 1 || job.Next != 900 {
		t.Errorf("the next one is %+v", job)
	}
	u.moved(storage.Fanout{Sequence: 1}, true)
	if job, ok := u.next(3); !ok || job.Sequence != 3 {
		t.Errorf("the next one is %+v", job)
	}
}
