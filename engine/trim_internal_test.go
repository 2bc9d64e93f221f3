package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// trimAge trims one page by age, ignoring the age of its messages.
func (w *workbench) trimAge(from, to uint64) error {
	t := w.trimmer
	t.running.lock()
	defer t.running.unlock()
	t.age.begin(w.log.FirstSequence())
	_, err := (&trimRun{trimmer: t, policy: &t.age}).page(span{from, to})
	return err
}

// missing returns an entry without a record, or "".
func (w *workbench) missing() (missing string) {
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		err := w.store.AllEntries(index, func(user messaging.UserID, _ messaging.Priority, seq uint64) bool {
			if _, err := w.log.Record(seq); err != nil {
				missing = fmt.Sprintf("the record of entry %d of %s: %v", seq, user, err)
			}
			return missing == ""
		})
		if err != nil {
			return err.Error()
		}
	}
	return missing
}

// A commit makes at most 256 point reads. A trim makes none (nothing else runs on the
// workbench), and at most 256 writes.
func TestATrimReadsNothingInItsCommit(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("later", `,"delay_seconds":60`)
		for range 2 * trimRecords {
			w.send("x", "")
		}
		for _, receivers := range []int{2, 200, 300, 700} {
			users := make([]string, receivers)
			for i := range users {
				users[i] = fmt.Sprintf(`"r%d"`, i)
			}
			b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"all"},"user_ids":[` + strings.Join(users, ",") + `]}`))
			if err != nil {
				w.Fatal(err)
			}
			if _, err := w.Broadcast(b, messaging.IdempotencyKey{}); err != nil {
				w.Fatal(err)
			}
		}
		w.trimmer.age.begin(w.log.FirstSequence())
		r := &trimRun{trimmer: w.trimmer, policy: &w.trimmer.age}
		end := w.log.Durable() + 1
		for from := uint64(1); from < end; {
			p, err := r.prepare(span{from, end})
			if err != nil {
				w.Fatal(err)
			}
			before, queued := w.store.PointReads(), w.log.Queued()
			if from, err = r.commit(p); err != nil {
				w.Fatal(err)
			}
			r.unpinDrops(p.items)
			if reads := w.store.PointReads() - before; reads > 0 {
				w.Errorf("a commit up to record %d read %d keys", from, reads)
			}
			if left := queued - w.log.Queued(); left > trimWork {
				w.Errorf("a commit up to record %d removed %d entries", from, left)
			}
		}
		w.wantCounts(0, 1)
		if problem := w.missing(); problem != "" {
			w.Error(problem)
		}
		if first := w.log.FirstSequence(); first != 1 {
			w.Errorf("the first sequence is %d, want 1: the first message is due later", first)
		}
	})
}

// If the journal has overflowed, every record stays, and the next run trims it.
func TestATrimKeepsRecordsWhenTheJournalIsFull(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		for range 3 {
			w.send("x", "")
		}
		w.trimmer.age.begin(1)
		r := &trimRun{trimmer: w.trimmer, policy: &w.trimmer.age}
		p, err := r.prepare(span{1, 4})
		if err != nil {
			w.Fatal(err)
		}
		j := &w.trimmer.journal
		for seq := uint64(10); !j.allEnqueued; seq++ {
			j.noteEnqueued(seq)
		}
		for seq := uint64(10); !j.allRemoved; seq++ {
			j.noteRemoved(seq, "u")
		}
		if _, err := r.commit(p); err != nil {
			w.Fatal(err)
		}
		r.unpinDrops(p.items)
		w.wantCounts(3, 0)
		if n := len(w.trimmer.age.kept); n != 3 || w.log.FirstSequence() != 1 {
			w.Errorf("%d records are remembered and the first sequence is %d, want 3 and 1", n, w.log.FirstSequence())
		}
		for range 3 {
			k := w.trimmer.age.kept[0].sequence
			if _, err := (&trimRun{trimmer: w.trimmer, policy: &w.trimmer.age}).page(span{k, k + 1}); err != nil {
				w.Fatal(err)
			}
		}
		w.wantCounts(0, 0)
		if first := w.log.FirstSequence(); first != 4 {
			w.Errorf("the first sequence is %d, want 4", first)
		}
	})
}
