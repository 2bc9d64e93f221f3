package layout

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/stayafrica/messaging"
)

// Errors of opening a data directory. Each has its own exit status, and its text says
// what to do.
var (
	// ErrLocked means that another process uses the directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrCorrupt means that the store is damaged or holds less than was acknowledged.
	// Nothing was changed.
	ErrCorrupt = errors.New("store is damaged")
	// ErrFormat means that this program does not know the store's format. Nothing was
	// changed.
	ErrFormat = errors.New("store has an unknown format")
	// ErrDiskFull means that there is too little space to open or to write.
	ErrDiskFull error = &messaging.Error{Code: messaging.CodeDiskFull, Message: "the disk is full: nothing was stored; free some space"}
	// ErrNotFound means that a key does not exist.
	ErrNotFound = errors.New("not found")
)

// HowToRepair tells the user what to do about damage.
const HowToRepair = "restore it if you can; otherwise `messaging verify` reports the damage and `messaging repair` keeps the undamaged data; delete nothing"

// IsDiskFull reports whether the operating system refused a write for lack of space.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// MarkDiskFull wraps an error of a full disk with [ErrDiskFull], unless it already is.
func MarkDiskFull(err error) error {
	if IsDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
