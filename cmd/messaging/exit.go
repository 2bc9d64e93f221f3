package main

import (
	"errors"

	"github.com/stayafrica/messaging/storage"
)

// The exit statuses. Scripts and supervisors rely on them.
const (
	exitDone        = 0
	exitOther       = 1
	exitConfig      = 2
	exitLocked      = 3
	exitDamaged     = 4
	exitDisk        = 5
	exitSupervision = 6
)

// errGaveUp means that parts of the service failed too often.
var errGaveUp = errors.New("supervision gave up")

// exitStatus returns the exit status for an error.
func exitStatus(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errConfig), errors.Is(err, storage.ErrForeign):
		return exitConfig
	case errors.Is(err, storage.ErrLocked):
		return exitLocked
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrFormat):
		return exitDamaged
	case errors.Is(err, storage.ErrDiskFull):
		return exitDisk
	case errors.Is(err, errGaveUp):
		return exitSupervision
	}
	return exitOther
}
