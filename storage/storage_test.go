package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

func openDisk(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, MemTableBytes: 1 << 20, Fatal: func(err error) { t.Fatal(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantRefused(t *testing.T, dir string, want error) {
	t.Helper()
	before := storagetest.Listing(t, dir)
	s, err := Open(Config{Dir: dir, MemTableBytes: 1 << 20})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("Open returned %v, want %v", err, want)
	}
	if after := storagetest.Listing(t, dir); before != after {
		t.Errorf("a refused open changed the directory:\n%s\n%s", before, after)
	}
}

func TestStoreComesBackAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for round := range 3 {
		s := openDisk(t, dir)
		if m := s.Meta(); m.Last != uint64(round*5) || m.Generation != uint64(round+1) || m.FirstSequence != 1 {
			t.Fatalf("round %d: %+v", round, m)
		}
		storagetest.Fill(t, s, 5)
		storagetest.Close(t, s)
	}
	for _, p := range []string{dir, filepath.Join(dir, layout.MessagesDir)} { // fact 10
		info, err := os.Stat(p)
		if err != nil || (p == dir && info.Mode().Perm() != 0o700) {
			t.Errorf("%s: %v %v", p, info.Mode(), err)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	defer storagetest.Close(t, s)
	_, err := Open(Config{Dir: dir})
	if !errors.Is(err, layout.ErrLocked) {
		t.Errorf("got %v", err)
	}
	if err := InUse(dir); !errors.Is(err, layout.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
}

func TestUnknownFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	id, err := controlfile.ReadIdentity(s.controlFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.controlFile.Update(func(tx controlfile.Tx) error {
		return controlfile.PutIdentity(tx, controlfile.Identity{Format: layout.Format + 1, StoreID: id.StoreID})
	}); err != nil {
		t.Fatal(err)
	}
	storagetest.Close(t, s)
	wantRefused(t, dir, layout.ErrFormat)
}

func TestCrashWhileCreatingIsRecovered(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Close(t, s)
	if err := os.Remove(filepath.Join(dir, layout.ControlName)); err != nil { // the rename to it is the last step
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, layout.CreatingDir), 0o700); err != nil {
		t.Fatal(err)
	}
	s = openDisk(t, dir)
	storagetest.Fill(t, s, 1)
	storagetest.Close(t, s)
}

func TestBallastIsReleasedAndRestored(t *testing.T) { // fact 4
	dir := t.TempDir()
	s := openDisk(t, dir)
	defer storagetest.Close(t, s)
	path := filepath.Join(dir, layout.BallastName)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Fatalf("no reserve: %v", err)
	}
	s.ballast.Release(s.logger)
	if _, err := os.Stat(path); err == nil || s.BallastMissing() == 0 {
		t.Error("the reserve still exists")
	}
	if err := s.RestoreBallast(); err != nil || s.BallastMissing() != 0 {
		t.Errorf("the reserve was not restored: %v", err)
	}
}
