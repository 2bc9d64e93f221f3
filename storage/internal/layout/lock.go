package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock takes the lock of a data directory for the life of the process, and writes the
// process id to the file. It returns [ErrLocked] if another process holds the lock.
func Lock(dir string) (io.Closer, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|NoFollow, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := lockHolder(f)
		closeErr := f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is held by %s; stop it, or choose another DATA_DIR", ErrLocked, path, holder)
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), closeErr)
	}
	// The process id is informational. A full disk must not prevent the lock.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func lockHolder(f *os.File) string {
	var text [32]byte
	n, _ := f.ReadAt(text[:], 0)
	if pid := strings.TrimSpace(string(text[:n])); pid != "" {
		return "process " + pid
	}
	return "another process"
}

// LockToRead keeps a service from starting while its store is read. It writes nothing.
func LockToRead(dir string) (io.Closer, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.Open(dir); err != nil || !HasStore(dir) {
			return nil, NoStore(dir)
		}
		return f, nil // the lock file is missing, so no process can hold it
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s is held by %s; stop it first", ErrLocked, path, lockHolder(f)), f.Close())
	}
	return f, nil
}

// InUse returns [ErrLocked] if another process uses a data directory. It returns nil if
// none does or if this is unknown.
func InUse(dir string) error {
	f, err := os.OpenFile(dir+"/"+LockName, os.O_RDWR|NoFollow, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // nothing was written
	if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s is held by %s; stop it, or choose another DATA_DIR", ErrLocked, dir, lockHolder(f))
	}
	return nil
}
