package diskfs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Ballast is a file that only occupies space. The space is freed when the disk is full.
type Ballast struct {
	mu   sync.Mutex
	path string
	size int64
	held bool
}

// NewBallast returns a ballast of a size. Restore creates its file.
func NewBallast(path string, size int64) *Ballast { return &Ballast{path: path, size: size} }

// Size returns the size of the file in bytes.
func (b *Ballast) Size() int64 { return b.size }

// Restore allocates the file unless the ballast is held.
func (b *Ballast) Restore() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held {
		return nil
	}
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the reserve: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, b.size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = writeZeros(f, b.size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("fill the reserve: %w", err), os.Remove(b.path))
	}
	b.held = true
	return nil
}

func writeZeros(f *os.File, size int64) error {
	block := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(block)) {
		if _, err := f.WriteAt(block[:min(int64(len(block)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// Release removes the file. It returns false if the ballast was not held.
func (b *Ballast) Release(logger *slog.Logger) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.held {
		return false
	}
	b.held = false
	if err := os.Remove(b.path); err != nil {
		logger.Error("remove the reserve", "error", err)
	}
	return true
}

// IsHeld reports whether the file exists.
func (b *Ballast) IsHeld() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}
