package layout

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/stayafrica/messaging"
)

// What keeps a data directory from being opened. Each has an exit status of
// its own; the sentence of the error says what to do.
var (
	// ErrLocked says that another process has the directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrCorrupt says that the store is damaged or holds less than was
	// acknowledged. Nothing was changed.
	ErrCorrupt = errors.New("store is damaged")
	// ErrFormat says that the store is of a format that this program does not
	// know. Nothing was changed.
	ErrFormat = errors.New("store has an unknown format")
	// ErrDiskFull says that there is no room to open, or to write.
	ErrDiskFull error = &messaging.Error{Code: messaging.CodeDiskFull, Message: "the disk is full: nothing was stored; free some space"}
	// ErrNotFound says that a key is not there.
	ErrNotFound = errors.New("not found")
)

// HowToRepair tells a person what to do about damage.
const HowToRepair = "restore it if you can; else `messaging verify` says what is wrong and `messaging repair` keeps what is whole; delete nothing"

// IsDiskFull says whether the operating system refused a write for lack of space.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// MarkDiskFull adds [ErrDiskFull] to an error of a full disk that lacks it.
func MarkDiskFull(err error) error {
	if IsDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
