package engine

import (
	"context"
	"time"

	"github.com/stayafrica/messaging"
)

// diskInterval is how often the free space is measured. A full disk is reported as such
// within a tenth of a second.
const diskInterval = 25 * time.Millisecond

// resumeShare sets when sends resume: MinFree/resumeShare must be free in addition to
// MinFree. Without it the state would flap.
const resumeShare = 10

// commitDeadline is how long a commit may wait for the disk before the service reports
// itself not ready and refuses sends.
const commitDeadline = 5 * time.Second

// admit refuses sends while the disk is full or does not respond.
func (e *Engine) admit() error {
	if e.diskFull.Load() {
		return messaging.Errorf(messaging.CodeDiskFull,
			"the disk is full: nothing was stored; free space on the disk of the data directory; sends then resume automatically")
	}
	if e.log.Stalled() > commitDeadline {
		err := messaging.Errorf(messaging.CodeOverloaded, "the disk does not respond: try again in a few seconds")
		err.RetryAfter = commitDeadline
		return err
	}
	return nil
}

// lettersShare sets the limit for dead letters: MinFree/lettersShare stays free for
// operations that free space. Dead letters may use the rest of MinFree; sends may not use
// any of it.
const lettersShare = 2

// admitLetters refuses dead letters if there is no space for them. Their messages stay
// where they are.
func (e *Engine) admitLetters() error {
	if e.diskFull.Load() && e.diskFree.Load() < e.config.MinFree/lettersShare {
		return messaging.Errorf(messaging.CodeDiskFull, "the disk is full: no dead letter was stored; free space on the disk of the data directory")
	}
	return nil
}

// Busy returns an error if so many changes wait for the disk that a send would be refused.
// Callers check it before they read the body of a send: refusing must cost less than
// accepting, or an overload reinforces itself. It ignores a full disk, because a repeated
// idempotency key gets its stored result even then.
func (e *Engine) Busy() error { return e.log.Busy() }

// Disk returns the free bytes and whether sends are accepted.
func (e *Engine) Disk() (free uint64, ok bool) {
	return e.diskFree.Load(), !e.diskFull.Load() && e.log.Stalled() <= commitDeadline
}

// WatchDisk measures the free space until the context ends. Below MinFree sends are
// refused, while reads, takes and the drain continue. Sends resume when MinFree and a
// tenth of it are free; the tenth avoids flapping.
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
	missing := e.store.BallastMissing()
	full := e.diskFull.Load()
	switch {
	case !full && (free < e.config.MinFree || missing > 0):
		e.diskFull.Store(true)
		e.logger.Error("the disk is nearly full: sends are refused until there is room; free some space", "free_bytes", free, "needed_bytes", e.config.MinFree)
		e.trimmer.wakeEarly()
	case full && free > missing+e.config.MinFree+e.config.MinFree/resumeShare:
		if err := e.store.RestoreBallast(); err != nil {
			return nil //nolint:nilerr // not enough space for the ballast yet
		}
		e.diskFull.Store(false)
		e.logger.Info("there is room on the disk again: sends are taken", "free_bytes", free)
	}
	return nil
}
