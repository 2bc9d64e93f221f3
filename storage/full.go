package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// roomPoll is how often a write that waits for room looks for it.
	roomPoll = 100 * time.Millisecond
	// roomWanted is the free space with which it goes on.
	roomWanted = 4 << 20
)

// fullness is what the store knows of a full disk.
type fullness struct {
	opening atomic.Bool // a flush that fails now would be tried for ever
	told    atomic.Bool // the log has said that writes wait for room
	closing atomic.Bool // the service stops, and writes do not wait any more
}

// withReserve is a file system that gives the reserve free when the disk is
// full, and tries the write once more; where that is too little, or somebody
// else was faster, the write waits for room.
func (s *Store) withReserve(fs vfs.FS) vfs.FS {
	return vfs.OnDiskFull(vfs.OnDiskFull(fs, func() { s.releaseReserve() }), s.awaitRoom)
}

// releaseReserve gives the reserve free; false says that there was none left.
func (s *Store) releaseReserve() bool {
	if s.spares != nil {
		s.spares.drop()
	}
	if s.reserve == nil || !s.reserve.release(s.logger) {
		return false
	}
	s.logger.Error("the disk is full: the reserve is given free for what must still be written; free some space", "dir", s.config.Dir)
	return true
}

// awaitRoom returns when there is room again, or the service stops. All writes
// of the database wait meanwhile: Pebble would end the process when its
// write-ahead log or manifest cannot be written, and try a flush again at once.
// Nothing is answered meanwhile, and readiness turns red (a commit has a
// deadline).
func (s *Store) awaitRoom() {
	if s.full.opening.Load() {
		return // the start says so, and ends
	}
	if s.full.told.CompareAndSwap(false, true) {
		s.logger.Error("the disk is full and the reserve is used up: writes wait for room; free some space", "dir", s.config.Dir)
	}
	for !s.full.closing.Load() {
		time.Sleep(roomPoll)
		if free, err := Free(s.config.Dir); err != nil || free >= roomWanted {
			return
		}
	}
}

// StopWaiting lets writes fail that wait for room on a full disk: the process
// ends then, without having acknowledged them. It is called when the service
// stops, which must not take for ever.
func (s *Store) StopWaiting() { s.full.closing.Store(true) }

// maxFailures is how often in a row background work may fail, but for want of
// room: Pebble tries again for ever, and whoever waits for it, a start or a
// stop among them, would wait as long.
const maxFailures = 20

// backgroundFailed hears of background work of Pebble's that failed and is
// tried again. A full disk has been told already. Where it keeps the store from
// opening, the work would be tried for ever, and the process ends instead.
func (s *Store) backgroundFailed(err error) {
	if !isDiskFull(err) {
		s.logger.Error("background work of the store failed and is tried again", "error", err)
		if s.failures.Add(1) >= maxFailures {
			if pebble.IsCorruptionError(err) {
				err = fmt.Errorf("%w: %w; %s", ErrDamaged, err, howToRepair)
			}
			s.fatal("work in the background of the store", err)
		}
		return
	}
	if s.full.opening.Load() {
		s.fatal("open the store", fmt.Errorf("%w: %w", ErrDiskFull, err))
	}
}

// openRoom is how much of the disk a start needs besides what it recovers from
// the write-ahead log: a new log, a manifest, and the first commits.
const openRoom = 64 << 20

// enterReserve takes the reserve. Where there is no room for it, because the
// last run gave it free and the disk is still full, a start takes what there is
// if that is enough to recover with: then messages can be taken, which is what
// makes room. Otherwise opening the database would hang.
func (s *Store) enterReserve() error {
	s.reserve = &reserve{path: s.path(reserveName), size: s.reserveSize()}
	err := s.reserve.restore()
	if err == nil {
		return nil
	}
	if !isDiskFull(err) {
		return err
	}
	free, err := Free(s.config.Dir)
	if err != nil {
		return err
	}
	need := s.walBytes() + openRoom
	if free < uint64(need) { //nolint:gosec // sizes of files
		return fmt.Errorf("%w: there is no room for the reserve of %d MiB beside %s, nor the %d MiB that a start needs without it (%d MiB are free); free some space and start again",
			ErrDiskFull, s.reserve.size>>20, s.path(reserveName), need>>20, free>>20)
	}
	s.logger.Warn("the disk is nearly full: there is no room for the reserve; sends are refused until there is; free some space",
		"free_bytes", free, "reserve_bytes", s.reserve.size)
	return nil
}

// walBytes is how much a start may have to flush.
func (s *Store) walBytes() (n int64) {
	files, err := os.ReadDir(s.path(messagesDir))
	if err != nil {
		return 0 // there is no store yet, or opening says what is wrong
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.EqualFold(filepath.Ext(f.Name()), ".log") {
			n += info.Size()
		}
	}
	return n
}

// RestoreReserve takes the reserve again once there is room for it. It does
// nothing while the reserve is held.
func (s *Store) RestoreReserve() error {
	if s.reserve == nil {
		return nil
	}
	err := s.reserve.restore()
	if err == nil {
		s.full.told.Store(false)
	}
	return err
}

// ReserveMissing is how many bytes the reserve lacks; more than 0 means that the
// disk was full not long ago.
func (s *Store) ReserveMissing() uint64 {
	if s.reserve == nil || s.reserve.isHeld() {
		return 0
	}
	return uint64(s.reserve.size) //nolint:gosec // not negative
}

// Reclaim gives the room back of records in [from, to) that were trimmed, and
// with receivers set that of all receivers of broadcasts that are gone. What was
// deleted or replaced is still on disk until Pebble has rewritten the tables
// that it stands in. That writes first what stays, so it needs some room itself:
// that is what the reserve and the watermark are for, and why a range should be
// no larger than what is needed.
func (s *Store) Reclaim(ctx context.Context, from, to uint64, receivers bool) error {
	err := s.db.Compact(ctx, numberKey(tableLog, from), numberKey(tableLog, to), false)
	if err == nil && receivers {
		err = s.db.Compact(ctx, []byte{tableReceivers}, []byte{tableReceivers + 1}, false)
	}
	if isDiskFull(err) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
