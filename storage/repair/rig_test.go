package repair

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

func openDisk(t *testing.T, dir string) *storage.Store {
	t.Helper()
	s, err := storage.Open(storage.Config{Dir: dir, MemTableBytes: 1 << 20, Fatal: func(err error) { t.Fatal(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantRefused(t *testing.T, dir string, want error) {
	t.Helper()
	before := storagetest.Listing(t, dir)
	s, err := storage.Open(storage.Config{Dir: dir, MemTableBytes: 1 << 20})
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

func repairConfig(dir string) fsck.Config { return fsck.Config{Dir: dir, Codec: storagetest.Codec()} }

// filled returns a closed store with some records.
func filled(t *testing.T, change func(s *storage.Store)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 20)
	if change != nil {
		change(s)
	}
	storagetest.Close(t, s)
	return dir
}
