package diskfs

import (
	"time"

	"github.com/stayafrica/messaging/storage/internal/layout"
)

const (
	// spacePoll is how often a write that waits for space checks for it.
	spacePoll = 100 * time.Millisecond
	// spaceWanted is the free space in bytes at which it continues.
	spaceWanted = 4 << 20
)

// WaitForSpace returns when the disk of a directory has space again or stop returns true.
func WaitForSpace(dir string, stop func() bool) {
	for !stop() {
		time.Sleep(spacePoll)
		if free, err := layout.Free(dir); err != nil || free >= spaceWanted {
			return
		}
	}
}
