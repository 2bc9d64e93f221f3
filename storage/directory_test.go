package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stayafrica/messaging/storage"
)

// A path that is a file is refused. Its mode and content do not change, because it may be
// a system file.
func TestAFileIsNoDataDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := storage.Open(storage.Config{Dir: path})
	if !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Open of a file returns %v, want ENOTDIR", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 || info.Size() != 1 {
		t.Errorf("the file has the mode %v and %d bytes (%v)", info.Mode(), info.Size(), err)
	}
}
