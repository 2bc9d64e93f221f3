package storage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// TestReadingADamagedTableIsDamage shows that every read of a damaged table returns
// ErrCorrupt, so a start that is refused reports damage and not another error.
func TestReadingADamagedTableIsDamage(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 3)
	id, user := messaging.MessageID{1}, messaging.UserID("789")
	b := s.NewBatch()
	b.PutTime(5, 1)
	b.PutReceivers(id, 0, []byte{3, 'u'})
	b.PutStage(id)
	b.PutFanout(schema.Fanout{Sequence: 1})
	b.PutQueueState(user, &schema.QueueState{})
	b.PutEntry(schema.Queued, user, 0, 1, schema.Entry{})
	b.PutTimer(schema.Due, schema.Timer{At: 5, User: user, Sequence: 1}, 0)
	b.PutIdempotencyRecord([16]byte{}, "key", schema.IdempotencyRecord{Expires: 5})
	b.Commit()
	b.Close()
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	storagetest.Close(t, s)
	for _, name := range filetest.Glob(t, filepath.Join(dir, layout.MessagesDir, "*.sst")) {
		storagetest.Zero(t, name, 10, 20) // the first block is the only one with data
	}
	s = newStore(Config{Dir: dir})
	var err error
	if s.db, err = pebbledb.OpenReadOnly(layout.Messages(dir), s.pebbleConfig(vfs.Default)); err != nil {
		t.Fatal(err)
	}
	each := func(uint64, schema.Entry) bool { return true }
	for what, read := range map[string]func() error{
		"meta":        func() error { _, err := tables.ReadMeta(s.Reader); return err },
		"record":      func() error { _, err := s.Record(1); return err },
		"records":     func() error { return s.Records(1, 9, func(uint64, []byte) (bool, error) { return true, nil }) },
		"user":        func() error { _, err := s.QueueState(user); return err },
		"users":       func() error { return s.QueueStates([]messaging.UserID{user}, func(int, schema.QueueState) {}) },
		"entry":       func() error { _, _, err := s.Entry(schema.Queued, user, 0, 1); return err },
		"entries":     func() error { return s.Entries(schema.Queued, user, 0, 1, 9, each) },
		"receivers":   func() error { _, err := s.Receivers(id, 0); return err },
		"stages":      func() error { _, err := s.Stages(); return err },
		"fan-outs":    func() error { _, err := s.Fanouts(); return err },
		"clears":      func() error { _, err := s.Clears(); return err },
		"once":        func() error { _, _, err := s.IdempotencyRecord([16]byte{}, "key"); return err },
		"once ends":   func() error { _, err := s.IdempotencyExpiries(0, 9, 9); return err },
		"next timer":  func() error { _, _, err := s.NextTimer(schema.Due, 0); return err },
		"last time":   func() error { _, err := s.LastTime(); return err },
		"time before": func() error { _, err := s.SequenceBefore(9); return err },
	} {
		if err := read(); !errors.Is(err, layout.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.closeAll(); err != nil {
		t.Error(err)
	}
}

// TestAStartThatIsRefusedRemovesNoLog shows that a start reads the unfinished work before
// it removes logs. Pebble has flushed the logs by then and would remove them.
func TestAStartThatIsRefusedRemovesNoLog(t *testing.T) {
	puts := map[string]func(*Batch){
		"a stage":       func(b *Batch) { b.PutStage(messaging.MessageID{1}) },
		"a fan-out":     func(b *Batch) { b.PutFanout(schema.Fanout{Sequence: 1}) },
		"a due time":    func(b *Batch) { b.PutTimer(schema.Due, schema.Timer{At: 5, User: "789", Sequence: 1}, 0) },
		"an expiry":     func(b *Batch) { b.PutTimer(schema.Expiry, schema.Timer{At: 5, User: "789", Sequence: 1}, 0) },
		"a time":        func(b *Batch) { b.PutTime(5, 1) },
		"a last record": func(b *Batch) { b.PutRecord(1, 4, func(dst []byte) { copy(dst, "body") }) },
	}
	for what, put := range puts {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir)
			compact(t, s)
			before := filetest.Glob(t, filepath.Join(dir, layout.MessagesDir, "*.sst"))
			b := s.NewBatch()
			put(b)
			b.Commit()
			b.Close()
			compact(t, s) // into a separate table that overlaps no other
			storagetest.Fill(t, s, 3)
			storagetest.Close(t, s)
			for _, name := range filetest.Glob(t, filepath.Join(dir, layout.MessagesDir, "*.sst")) {
				if !slices.Contains(before, name) {
					storagetest.Zero(t, name, 10, 20)
				}
			}
			logs := files(t, dir, "*.log")
			wantRefused(t, dir, layout.ErrCorrupt)
			if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), layout.HowToRepair) {
				t.Errorf("it does not say what to do: %v", err)
			}
			after := files(t, dir, "*.log")
			for name, content := range logs {
				if after[name] != content {
					t.Errorf("%s has changed", name)
				}
			}
		})
	}
}

// compact moves all data into the lowest level. Two tables above it whose keys overlap
// are enough to start a background compaction. It would merge tables that a test keeps
// apart, remove a table while the test reads it, and end the process if it meets the
// damage first.
func compact(t *testing.T, s *Store) {
	t.Helper()
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
}

// files returns the contents of the database's matching files.
func files(t *testing.T, dir, pattern string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, layout.MessagesDir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	contents := make(map[string]string)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		contents[name] = string(b)
	}
	return contents
}
