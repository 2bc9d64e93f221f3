package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stayafrica/messaging"
)

func openDisk(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, MemTableBytes: 1 << 20, Fatal: func(err error) { t.Fatal(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill commits n records, as the log would.
func fill(t *testing.T, s *Store, n int) {
	t.Helper()
	meta := s.Meta()
	for range n {
		meta.Last++
		b := s.NewBatch()
		b.PutRecord(meta.Last, 4, func(dst []byte) { copy(dst, "body") })
		b.PutMeta(meta)
		b.Commit()
		b.Close()
	}
	if err := s.Control().SaveWatermark(Watermark{Sequence: meta.Last, Generation: meta.Generation}); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantRefused(t *testing.T, dir string, want error) {
	t.Helper()
	before := listing(t, dir)
	s, err := Open(Config{Dir: dir, MemTableBytes: 1 << 20})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("open gave %v, want %v", err, want)
	}
	if after := listing(t, dir); before != after {
		t.Errorf("a refused open changed the directory:\n%s\n%s", before, after)
	}
}

// listing names what stands at the top of a data directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, e := range entries {
		if e.Name() != lockName && e.Name() != reserveName {
			names += e.Name() + " "
		}
	}
	return names
}

func TestStoreComesBackAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for round := range 3 {
		s := openDisk(t, dir)
		if m := s.Meta(); m.Last != uint64(round*5) || m.Generation != uint64(round+1) || m.Floor != 1 {
			t.Fatalf("round %d: %+v", round, m)
		}
		fill(t, s, 5)
		closeStore(t, s)
	}
	for _, p := range []string{dir, filepath.Join(dir, messagesDir)} { // fact 10
		info, err := os.Stat(p)
		if err != nil || (p == dir && info.Mode().Perm() != 0o700) {
			t.Errorf("%s: %v %v", p, info.Mode(), err)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	defer closeStore(t, s)
	_, err := Open(Config{Dir: dir})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	if err := InUse(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("in use: %v", err)
	}
}

func TestUnknownFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	id, err := s.control.identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.control.file.Update(func(tx ControlTx) error {
		return putState(tx, keyIdentity, append([]byte{0, 0, 0, Format + 1}, id.storeID[:]...))
	}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	wantRefused(t, dir, ErrFormat)
}

func TestCrashWhileCreatingIsRecovered(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	closeStore(t, s)
	if err := os.Remove(filepath.Join(dir, controlName)); err != nil { // its name is the last step
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, creatingDir), 0o700); err != nil {
		t.Fatal(err)
	}
	s = openDisk(t, dir)
	fill(t, s, 1)
	closeStore(t, s)
}

func TestReserveIsGivenFreeAndTakenAgain(t *testing.T) { // fact 4
	dir := t.TempDir()
	s := openDisk(t, dir)
	defer closeStore(t, s)
	path := filepath.Join(dir, reserveName)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Fatalf("no reserve: %v", err)
	}
	s.reserve.release(s.logger)
	if _, err := os.Stat(path); err == nil || s.ReserveMissing() == 0 {
		t.Error("the reserve is still there")
	}
	if err := s.RestoreReserve(); err != nil || s.ReserveMissing() != 0 {
		t.Errorf("the reserve is not there again: %v", err)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add(appendEntryKey(nil, Queued, "user", messaging.Low, 7))
	f.Add(appendEntryKey(nil, Delayed, "user", messaging.High, 1<<60))
	f.Add(appendTimerKey(nil, Due, Timer{At: 5, Sequence: 6, User: "user"}))
	f.Add(onceEndKey(5, [16]byte{1}, "key"))
	f.Fuzz(func(t *testing.T, key []byte) {
		user, p, seq, err := parseEntryKey(key)
		if err == nil && string(appendEntryKey(nil, Shelf(key[0]), user, p, seq)) != string(key) {
			t.Errorf("%x is read as %s %s %d", key, user, p, seq)
		}
		if timer, err := parseTimerKey(key); err == nil && timer.At >= 0 && string(appendTimerKey(nil, Event(key[0]), timer)) != string(key) {
			t.Errorf("%x is read as %+v", key, timer)
		}
		if end, err := parseOnceEndKey(key); err == nil && end.At >= 0 && string(onceEndKey(end.At, end.Scope, end.Key)[1:]) != string(key[1:]) {
			t.Errorf("%x is read as %+v", key, end)
		}
	})
}

func FuzzValues(f *testing.F) {
	u := User{Tally: Tally{Counts: [3]uint64{1, 2, 3}, Heads: [3]uint64{4, 5, 600}}}
	f.Add(u.append(nil))
	u.Delayed = u.Tally
	f.Add(u.append(nil))
	f.Add(Entry{Quoted: true, Deliveries: 300, Expires: 5, Due: 6}.append(nil))
	once := OnceRecord{Expires: 7, Receipt: messaging.Receipt{Sequence: 1, Recipients: 2, Count: 3}}
	f.Add(once.append(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		if u, err := decodeUser(value); err == nil {
			if again, err := decodeUser(u.append(nil)); err != nil || again != u {
				t.Errorf("%+v became %+v (%v)", u, again, err)
			}
		}
		if e, err := decodeEntry(value); err == nil && e.Expires >= 0 && e.Due >= 0 {
			if again, err := decodeEntry(e.append(nil)); err != nil || again != e {
				t.Errorf("%+v became %+v (%v)", e, again, err)
			}
		}
		if o, err := decodeOnce(value); err == nil && o.Expires >= 0 {
			if again, err := decodeOnce(o.append(nil)); err != nil || again != o {
				t.Errorf("%+v became %+v (%v)", o, again, err)
			}
		}
		_, _ = decodeMeta(value)
	})
}
