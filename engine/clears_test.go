package engine_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/repair"
)

// fill sends messages of every kind to user u.
func (s *serving) fill(n int) {
	s.tb.Helper()
	for i := range n {
		s.sendWith("old", [...]string{
			"", `,"priority":"high"`, `,"delay_seconds":60`, `,"ttl_seconds":60`, `,"delay_seconds":30,"ttl_seconds":60,"priority":"low"`,
		}[i%5])
	}
}

func (s *serving) clear(want uint64) {
	s.tb.Helper()
	if n, err := s.engine.Clear("u"); err != nil || n != want {
		s.tb.Errorf("%d were cleared (%v), want %d", n, err, want)
	}
}

// entries counts the entries of user u on disk, including marked ones.
func (r *rig) entries() (n int) {
	r.tb.Helper()
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		for p := messaging.High; p <= messaging.Low; p++ {
			err := r.store.Entries(index, "u", p, 0, ^uint64(0), func(uint64, storage.Entry) bool { n++; return true })
			if err != nil {
				r.tb.Fatal(err)
			}
		}
	}
	return n
}

func (r *rig) wantClears(want int) {
	r.tb.Helper()
	if clears, err := r.store.Clears(); err != nil || len(clears) != want {
		r.tb.Errorf("marks %v (%v), want %d", clears, err, want)
	}
}

// A clear removes the timers of what it clears, and the mark is removed with the last
// entry.
func TestClearEndsEntriesAndTimers(t *testing.T) {
	onServing(t, engine.Config{}, func(s *serving) {
		const n = 2500 // more than two steps
		s.fill(n)
		s.clear(n)
		s.sendWith("new", "")
		s.wantQueue("new")
		s.wantClears(0)
		s.wantTimers(0)
		if left := s.entries(); left != 1 {
			t.Errorf("%d entries are on disk, want 1", left)
		}
	})
}

// The next start finds an unfinished clear. Until it is finished, nothing that it marked
// is delivered, counted, due, evicted or cleared again.
func TestUnfinishedClearContinuesAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{QueueMax: 3000})} // no service runs
		const n = 2500
		s.fill(n)
		s.clear(n)
		s.clear(0)
		s.wantClears(1)
		s.sendWith("1", "")
		s.sendWith("2", "")
		s.clear(2) // raises the mark
		s.sendWith("3", "")
		s.sendWith("4", "")
		for range 2 {
			if left := s.entries(); left != n+4 {
				t.Errorf("%d entries are on disk, want %d", left, n+4)
			}
			if size, err := s.engine.Size("u"); err != nil || size != (messaging.Counts{Normal: 2}) {
				t.Errorf("size %+v (%v)", size, err)
			}
			s.wantQueue("3", "4")
			s.reopen() // the check of the tables counts marked entries as removed
		}
		s.start()
		synctest.Wait()
		s.wantClears(0)
		s.wantTimers(0)
		if left := s.entries(); left != 2 {
			t.Errorf("%d entries are on disk, want 2", left)
		}
		wantTexts(t, s.take("u", 10), "3", "4")
		s.halt()
	})
}

// The limit of a queue does not count marked entries.
func TestMarkedEntriesAreNotEvicted(t *testing.T) {
	r := newRig(t, engine.Config{QueueMax: 3})
	for range 3 {
		r.send("u", "old", messaging.Normal)
	}
	if _, err := r.engine.Clear("u"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"1", "2", "3"} {
		r.send("u", text, messaging.Normal)
	}
	if evicted := r.engine.Stats().Evicted; evicted != 0 {
		t.Errorf("%d messages were evicted", evicted)
	}
	r.send("u", "4", messaging.Normal)
	wantTexts(t, peek(t, r, "u"), "2", "3", "4")
}

// A redrive into a queue with an unfinished clear finishes the clear first: at or below
// the mark, the message would count as cleared.
func TestRedriveIntoAQueueThatIsBeingCleared(t *testing.T) {
	r := newRig(t, engine.Config{})
	r.send("u", "1", messaging.Normal)
	h, err := r.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	h.Finish(true)
	for i := range 2100 {
		r.send("u", fmt.Sprint("old", i), messaging.Normal)
	}
	if _, err := r.engine.Clear("u"); err != nil {
		t.Fatal(err)
	}
	h.Messages[0].Receiver.User = "u"
	letter := messaging.DeadLetter{Kind: messaging.Undeliverable, Reason: "nobody acknowledged it", Recipients: 1, Message: h.Messages[0]}
	if err := r.engine.DeadLetters().AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
		t.Fatal(err)
	}
	if results := redrive(t, r.engine, &letter); results[0] != (messaging.RequeueResult{}) {
		t.Fatalf("redrive: %+v", results)
	}
	r.wantClears(0)
	wantTexts(t, peek(t, r, "u"), "1")
	r.reopen()
	wantTexts(t, r.take("u", 10), "1")
}

// A repair finishes a clear: it removes the marked entries and their timers.
func TestRepairFinishesClears(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := mustOpenDisk(t, dir)
	d.fillWhole()
	if n, err := d.engine.Clear("later"); err != nil || n != 6 {
		t.Fatalf("%d were cleared (%v)", n, err)
	}
	b := d.store.NewBatch()
	b.PutQueueState("u2", &storage.QueueState{}) // something to repair
	b.Commit()
	b.Close()
	d.close()
	if _, err := repair.Repair(checkConfig(dir)); err != nil {
		t.Fatal(err)
	}
	wantClean(t, dir)
	d = mustOpenDisk(t, dir)
	defer d.close()
	if clears, err := d.store.Clears(); err != nil || len(clears) != 0 {
		t.Errorf("marks %v (%v)", clears, err)
	}
	for _, user := range []messaging.UserID{"u3", "later"} {
		for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
			for p := messaging.High; p <= messaging.Low; p++ {
				if err := d.store.Entries(index, user, p, 0, 74, func(seq uint64, _ storage.Entry) bool {
					t.Errorf("entry %d of %s is still there", seq, user)
					return true
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if size, err := d.engine.Size("u2"); err != nil || size.Total() == 0 {
		t.Errorf("queue u2 has %+v (%v)", size, err)
	}
}
