package engine

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stayafrica/messaging"
)

// A large broadcast reaches a queue that was cleared before the fan-out got there. The
// clear did not count the broadcast. The number of entries removed by then does not
// matter.
func TestALargeBroadcastReachesAQueueClearedBeforeIt(t *testing.T) {
	for _, finished := range []bool{true, false} {
		t.Run(fmt.Sprint("entries removed ", finished), func(t *testing.T) {
			onWorkbench(t, Config{}, 0, func(w *workbench) {
				w.send("1", "")
				users := `["u"`
				for n := range messaging.ReceiversPerChunk {
					users += fmt.Sprintf(`,"r%d"`, n)
				}
				b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"all"},"user_ids":` + users + `]}`))
				if err != nil {
					w.Fatal(err)
				}
				if _, err := w.Broadcast(b, messaging.IdempotencyKey{}); err != nil {
					w.Fatal(err)
				}
				if n, err := w.Clear("u"); err != nil || n != 1 {
					w.Fatalf("%d were cleared (%v), want 1", n, err)
				}
				finish := func() {
					q, err := w.queues.pin("u")
					if err != nil {
						w.Fatal(err)
					}
					defer w.queues.unpin(q)
					if err := w.awaitClears([]*queue{q}); err != nil {
						w.Fatal(err)
					}
				}
				if finished {
					finish()
				}
				if err := w.fanoutAll(t.Context()); err != nil {
					w.Fatal(err)
				}
				finish()
				synctest.Wait()
				w.want(w.take(messaging.TakeOptions{Limit: 10}), "all")
			})
		})
	}
}
