package main

import (
	"errors"

	"github.com/stayafrica/messaging/storage"
)

// The exit statuses, which scripts and supervisors rely on.
const (
	exitDone        = 0
	exitOther       = 1
	exitConfig      = 2
	exitLocked      = 3
	exitDamaged     = 4
	exitDisk        = 5
	exitSupervision = 6
)

// errGaveUp says that a part of the service failed again and again.
var errGaveUp = errors.New("supervision gave up")

// exitStatus says with which status an error ends the process.
func exitStatus(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errConfig):
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
