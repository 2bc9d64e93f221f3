package engine

import (
	"testing"
	"testing/synctest"

	"github.com/stayafrica/messaging/storage"
)

// A clear that is staged between the last read of an earlier clear and the commit that
// would remove its mark keeps the mark: what it clears was not on disk when the entries
// were read.
func TestClearWhileTheLastEntriesOfAnotherAreRemoved(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		clearAll := func() {
			if n, err := w.Clear("u"); err != nil || n == 0 {
				w.Errorf("%d were cleared (%v)", n, err)
			}
		}
		w.send("1", "")
		clearAll()
		walks := w.clears.next(clearQueues)
		w.together(
			func() { w.send("2", `,"ttl_seconds":60`) },
			clearAll,
			func() {
				if err := w.clearStep(walks); err != nil {
					w.Error(err)
				}
			},
		)
		if marks, err := w.store.Clears(); err != nil || len(marks) != 1 {
			w.Errorf("marks %v (%v), want one: message 2 is on disk", marks, err)
		}
		q, err := w.queues.pin("u")
		if err != nil {
			w.Fatal(err)
		}
		if err := w.awaitClears([]*queue{q}); err != nil {
			w.Error(err)
		}
		w.queues.unpin(q)
		synctest.Wait()
		if marks, err := w.store.Clears(); err != nil || len(marks) != 0 {
			w.Errorf("marks %v are left (%v)", marks, err)
		}
		if _, has, err := w.store.Entry(storage.Queued, "u", 1, 2); err != nil || has {
			w.Errorf("message 2 is on disk (%v)", err)
		}
		if pins := w.Pinned(); pins != 0 {
			w.Errorf("%d pins of queues are left", pins)
		}
	})
}
