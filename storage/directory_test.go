package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stayafrica/messaging/storage"
)

// What is not a data directory of this user is refused, and nothing is changed there.
func TestForeignDirectoriesAreRefused(t *testing.T) {
	const mode = 0o755
	for name, c := range map[string]struct {
		fill    func(dir string) error
		allowed bool
	}{
		"empty":                {func(string) error { return nil }, true},
		"a file system's root": {func(dir string) error { return os.Mkdir(filepath.Join(dir, "lost+found"), 0o700) }, true},
		"a home directory":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, ".profile"), nil, 0o600) }, false},
		"a program's directory": {func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "messages"), 0o700), os.WriteFile(filepath.Join(dir, "manage.py"), nil, 0o600))
		}, false},
		"LOCK is a link":          {func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "LOCK")) }, false},
		"the reserve is a link":   {func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "reserve")) }, false},
		"control.db is a link":    {func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "control.db")) }, false},
		"the messages are a link": {func(dir string) error { return os.Symlink("/tmp", filepath.Join(dir, "messages")) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := errors.Join(os.Mkdir(dir, mode), c.fill(dir)); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(dir)
			s, err := storage.Open(storage.Config{Dir: dir})
			if err == nil {
				_ = s.Close()
			}
			if (err == nil) != c.allowed || errors.Is(err, storage.ErrForeign) == c.allowed {
				t.Fatalf("%v, want allowed %t", err, c.allowed)
			}
			if after, _ := os.ReadDir(dir); !c.allowed && len(after) != len(before) {
				t.Errorf("%v became %v", before, after)
			}
			if info, err := os.Stat(dir); err != nil || (!c.allowed && info.Mode().Perm() != mode) {
				t.Errorf("the mode is %v now", info.Mode())
			}
		})
	}
}

// A directory of another user is refused, unless its store is ours: a volume may belong to
// somebody else.
func TestDirectoryOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := t.TempDir()
	give := func(paths ...string) {
		for _, path := range paths {
			if err := os.Chown(path, 12345, 12345); err != nil {
				t.Fatal(err)
			}
		}
	}
	give(dir)
	for range 2 { // empty, and with our store
		s, err := storage.Open(storage.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	give(filepath.Join(dir, "control.db"))
	if _, err := storage.Open(storage.Config{Dir: dir}); !errors.Is(err, storage.ErrForeign) {
		t.Errorf("a store of another user: %v, want ErrForeign", err)
	}
}

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
