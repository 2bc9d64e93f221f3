package persist_test

import (
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
	"github.com/stayafrica/messaging/wal"
)

var _ persist.History = (*rigStore)(nil)

// trimRecord replaces one record with a tombstone.
type trimRecord struct {
	sequence uint64
	record   wal.Record
}

func (trimRecord) Records() []wal.Record { return nil }
func (c trimRecord) Stage(tx *wal.Tx)    { tx.TrimRecord(c.sequence, &c.record) }
func (trimRecord) OnDurable()            {}

// The real log returns a message for every sequence except the trimmed ones, for any
// page boundaries.
func TestSequenceWithoutAMessageWasTrimmed(t *testing.T) {
	s := newRigStore(t)
	s.add("a/1", "b/2")
	s.broadcast("all/3")
	s.addOwn("a/4")
	s.add("a/5", "a/6")
	s.broadcast("all/7")
	s.broadcast("all/8")
	s.addOwn("a/9")
	s.add("b/10")
	trimmed := map[uint64]bool{2: true, 5: true, 7: true, 9: true}
	for seq := range trimmed {
		record, err := s.Record(seq)
		if err == nil {
			err = s.Commit(trimRecord{seq, record})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for limit := 1; limit < 12; limit++ {
		seen := make(map[uint64]bool)
		for from := (messaging.Position{Sequence: 1}); ; {
			page, next, err := s.Read(from, limit, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if next == from {
				break
			}
			for i := range page {
				seen[page[i].Position.Sequence] = true
			}
			for seq := from.Sequence; seq < next.Sequence; seq++ {
				if seen[seq] == trimmed[seq] {
					t.Errorf("pages of %d: sequence %d has a message: %t; trimmed: %t", limit, seq, seen[seq], trimmed[seq])
				}
			}
			from = next
		}
		if len(seen) != 6 {
			t.Errorf("pages of %d have messages of %d sequences, want 6", limit, len(seen))
		}
	}
}
