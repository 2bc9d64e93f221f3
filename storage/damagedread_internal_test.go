package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
)

// TestReadingADamagedTableIsDamage: a start that is refused for it must say so, and
// not that something else went wrong. Every way to read is tried.
func TestReadingADamagedTableIsDamage(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	fill(t, s, 3)
	id, user := messaging.MessageID{1}, messaging.UserID("789")
	b := s.NewBatch()
	b.PutTime(5, 1)
	b.PutReceivers(id, 0, []byte{3, 'u'})
	b.PutStage(id)
	b.PutFanout(Fanout{Sequence: 1})
	b.PutUser(user, &User{})
	b.PutEntry(Queued, user, 0, 1, Entry{})
	b.PutTimer(Due, Timer{At: 5, User: user, Sequence: 1}, 0)
	b.PutOnce([16]byte{}, "key", OnceRecord{Expires: 5})
	b.Commit()
	b.Close()
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	for _, name := range glob(t, filepath.Join(dir, messagesDir, "*.sst")) {
		zero(t, name, 10, 20) // its only block of data comes first
	}
	s = newRepairer(repairConfig(dir), &Repaired{}).store
	var err error
	if s.db, err = s.readPebble(s.path(messagesDir)); err != nil {
		t.Fatal(err)
	}
	each := func(uint64, Entry) bool { return true }
	for what, read := range map[string]func() error{
		"meta":        func() error { _, err := s.readMeta(); return err },
		"record":      func() error { _, err := s.Record(1); return err },
		"records":     func() error { return s.Records(1, 9, func(uint64, []byte) (bool, error) { return true, nil }) },
		"user":        func() error { _, err := s.User(user); return err },
		"users":       func() error { return s.Users([]messaging.UserID{user}, func(int, User) {}) },
		"entry":       func() error { _, _, err := s.Entry(Queued, user, 0, 1); return err },
		"entries":     func() error { return s.Entries(Queued, user, 0, 1, 9, each) },
		"receivers":   func() error { _, err := s.Receivers(id, 0); return err },
		"stages":      func() error { _, err := s.Stages(); return err },
		"fan-outs":    func() error { _, err := s.Fanouts(); return err },
		"once":        func() error { _, _, err := s.Once([16]byte{}, "key"); return err },
		"once ends":   func() error { _, err := s.OnceEnds(0, 9, 9); return err },
		"next timer":  func() error { _, _, err := s.NextTimer(Due, 0); return err },
		"last time":   func() error { _, err := s.LastTime(); return err },
		"time before": func() error { _, err := s.SequenceBefore(9); return err },
	} {
		if err := read(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.closeAll(); err != nil {
		t.Error(err)
	}
}

// TestAStartThatIsRefusedRemovesNoLog: the library has read the logs into tables and
// would remove them; what a start goes on with is read before that.
func TestAStartThatIsRefusedRemovesNoLog(t *testing.T) {
	puts := map[string]func(*Batch){
		"a stage":       func(b *Batch) { b.PutStage(messaging.MessageID{1}) },
		"a fan-out":     func(b *Batch) { b.PutFanout(Fanout{Sequence: 1}) },
		"a due time":    func(b *Batch) { b.PutTimer(Due, Timer{At: 5, User: "789", Sequence: 1}, 0) },
		"an expiry":     func(b *Batch) { b.PutTimer(Expiry, Timer{At: 5, User: "789", Sequence: 1}, 0) },
		"a time":        func(b *Batch) { b.PutTime(5, 1) },
		"a last record": func(b *Batch) { b.PutRecord(1, 4, func(dst []byte) { copy(dst, "body") }) },
	}
	for what, put := range puts {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir)
			if err := s.db.Flush(); err != nil { // a table of its own for what is put
				t.Fatal(err)
			}
			before := files(t, dir, "*.sst")
			b := s.NewBatch()
			put(b)
			b.Commit()
			b.Close()
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
			fill(t, s, 3)
			closeStore(t, s)
			for name := range files(t, dir, "*.sst") {
				if _, ok := before[name]; !ok {
					zero(t, name, 10, 20)
				}
			}
			logs := files(t, dir, "*.log")
			wantRefused(t, dir, ErrDamaged)
			if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), howToRepair) {
				t.Errorf("it does not say what to do: %v", err)
			}
			after := files(t, dir, "*.log")
			for name, content := range logs {
				if after[name] != content {
					t.Errorf("%s is not what it was", name)
				}
			}
		})
	}
}

// files gives what is in the files of the database whose names match.
func files(t *testing.T, dir, pattern string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, messagesDir, pattern))
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
