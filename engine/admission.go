package engine

import (
	"context"
	"time"

	"github.com/stayafrica/messaging"
)

// diskInterval is how often the free space is measured: a full disk is
// answered as such within a tenth of a second.
const diskInterval = 25 * time.Millisecond

// resumeShare is which part of the minimum must be free beyond it for sends to
// be taken again, so that it does not flap.
const resumeShare = 10

// commitDeadline is how long a commit may wait for the disk before the service
// calls itself not ready and refuses more.
const commitDeadline = 5 * time.Second

// admit refuses what there is no room or no working disk for.
func (e *Engine) admit() error {
	if e.diskFull.Load() {
		return messaging.Errorf(messaging.CodeDiskFull, "the disk is full: nothing was stored; free space on the disk of the data directory, sends go on by themselves then")
	}
	if e.log.Stalled() > commitDeadline {
		err := messaging.Errorf(messaging.CodeOverloaded, "the disk does not answer: try again in a few seconds")
		err.RetryAfter = commitDeadline
		return err
	}
	return nil
}

// Busy says that so much waits for the disk that a send would be refused. It is
// asked before the body of one is read: refusing has to cost less than accepting,
// or an overload feeds itself. A full disk is no matter of this: what was sent
// before, under the same key, is answered then too.
func (e *Engine) Busy() error { return e.log.Busy() }

// Disk says how many bytes are free and whether that is enough to take sends.
func (e *Engine) Disk() (free uint64, ok bool) {
	return e.diskFree.Load(), !e.diskFull.Load() && e.log.Stalled() <= commitDeadline
}

// WatchDisk measures the free space until the context ends. Below the minimum
// sends are refused while reads, takes and the drain go on; above it, with a
// tenth to spare so that it does not flap, they are taken again.
func (e *Engine) WatchDisk(ctx context.Context) error {
	if e.config.Free == nil {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(diskInterval)
	defer ticker.Stop()
	for {
		if err := e.MeasureDisk(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// MeasureDisk measures the free space once.
func (e *Engine) MeasureDisk() error {
	if e.config.Free == nil {
		return nil
	}
	free, err := e.config.Free()
	if err != nil {
		return err
	}
	e.diskFree.Store(free)
	missing := e.store.ReserveMissing()
	full := e.diskFull.Load()
	switch {
	case !full && (free < e.config.MinFree || missing > 0):
		e.diskFull.Store(true)
		e.logger.Error("the disk is nearly full: sends are refused until there is room; free some space", "free_bytes", free, "needed_bytes", e.config.MinFree)
		e.wakeRelief()
	case full && free > missing+e.config.MinFree+e.config.MinFree/resumeShare:
		if err := e.store.RestoreReserve(); err != nil {
			return nil //nolint:nilerr // there is not enough room for the reserve yet
		}
		e.diskFull.Store(false)
		e.logger.Info("there is room on the disk again: sends are taken", "free_bytes", free)
	}
	return nil
}
