package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// diskFull is the store's state on a full disk.
type diskFull struct {
	opening atomic.Bool // a failing flush would be retried forever
	logged  atomic.Bool // it was logged that writes wait for space
	closing atomic.Bool // the service is stopping: writes fail instead of waiting
}

// withBallast returns a file system that releases the ballast when the disk is full, and
// retries the write once. If that is too little, or another process was faster, the write
// waits for space, except for the write of a compaction, which fails.
func (s *Store) withBallast(fs vfs.FS) vfs.FS {
	releasing := vfs.OnDiskFull(fs, func() { s.releaseBallast() })
	s.compactions = &diskfs.CompactionLimit{
		FS: vfs.OnDiskFull(releasing, s.waitForSpace), Failing: releasing,
		Held: func() bool { return s.ballast != nil && s.ballast.IsHeld() }, Free: func() (uint64, error) { return layout.Free(s.config.Dir) },
		Floor: compactionFloor(s.pebbleConfig(nil).MemTableSize()), Stopped: s.full.closing.Load,
	}
	return s.compactions
}

// compactionFloor returns how many bytes compactions leave free on a full disk: for the
// flush of a memtable and the write-ahead log meanwhile.
func compactionFloor(memTable uint64) uint64 { return memTable + 16<<20 }

// releaseBallast releases the ballast. It returns false if none was left.
func (s *Store) releaseBallast() bool {
	if s.prealloc != nil {
		s.prealloc.Drop()
	}
	if s.ballast == nil || !s.ballast.Release(s.logger) {
		return false
	}
	s.logger.Error("the disk is full: the reserve is given free for what must still be written; free some space", "dir", s.config.Dir)
	return true
}

// waitForSpace returns when there is space again or the service stops. Meanwhile all
// writes of the database wait. Pebble would end the process if it could not write its
// write-ahead log or manifest, and would retry a failed flush at once. No request gets a
// response meanwhile, and readiness fails, because commits have a deadline.
func (s *Store) waitForSpace() {
	if s.full.opening.Load() {
		return // Open reports the error and ends
	}
	if s.full.logged.CompareAndSwap(false, true) {
		s.logger.Error("the disk is full and the reserve is used up: writes wait for room; free some space", "dir", s.config.Dir)
	}
	diskfs.WaitForSpace(s.config.Dir, s.full.closing.Load)
}

// StopWaiting makes writes fail that wait for space on a full disk. The process then ends
// without having acknowledged them. It is called when the service stops, so that the stop
// does not hang.
func (s *Store) StopWaiting() { s.full.closing.Store(true) }

// backgroundDiskFull is called when Pebble's background work failed on a full disk and is
// being retried. The full disk is already logged. While the store opens, the retries
// would never end, so the process ends instead.
func (s *Store) backgroundDiskFull(err error) {
	if s.full.opening.Load() {
		s.fatal("open the store", fmt.Errorf("%w: %w", layout.ErrDiskFull, err))
	}
}

// openSpace is the space that a start needs in addition to the write-ahead log that it
// recovers: for a new log, a manifest and the first commits.
const openSpace = 64 << 20

// useBallast takes the ballast. If the last run released it and the disk is still full,
// there may be no space for it. The start continues without it if the free space is
// enough for recovery: taking messages then frees space. Otherwise opening the database
// would hang, so the start is refused.
func (s *Store) useBallast() error {
	s.ballast = diskfs.NewBallast(s.path(layout.BallastName), s.ballastSize())
	err := s.ballast.Restore()
	if err == nil {
		return nil
	}
	if !layout.IsDiskFull(err) {
		return err
	}
	free, err := layout.Free(s.config.Dir)
	if err != nil {
		return err
	}
	need := s.walBytes() + openSpace
	if free < uint64(need) { //nolint:gosec // sizes of files
		return fmt.Errorf("%w: there is no room for the reserve of %d MiB at %s, nor for the %d MiB that a start needs without it (%d MiB are free); free some space and start again",
			layout.ErrDiskFull, s.ballast.Size()>>20, s.path(layout.BallastName), need>>20, free>>20)
	}
	s.logger.Warn("the disk is nearly full: there is no room for the reserve; sends are refused until there is; free some space",
		"free_bytes", free, "reserve_bytes", s.ballast.Size())
	return nil
}

// walBytes returns the size of the write-ahead log, which a start may have to flush.
func (s *Store) walBytes() (n int64) {
	files, err := os.ReadDir(s.path(layout.MessagesDir))
	if err != nil {
		return 0 // there is no store yet, or opening it reports the error
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.EqualFold(filepath.Ext(f.Name()), ".log") {
			n += info.Size()
		}
	}
	return n
}

// RestoreBallast takes the ballast again if there is enough space. It does nothing while
// the ballast is held.
func (s *Store) RestoreBallast() error {
	if s.ballast == nil {
		return nil
	}
	err := s.ballast.Restore()
	if err == nil {
		s.full.logged.Store(false)
	}
	return err
}

// BallastMissing returns the ballast's missing bytes. A value above 0 means that the disk
// was full recently.
func (s *Store) BallastMissing() uint64 {
	if s.ballast == nil || s.ballast.IsHeld() {
		return 0
	}
	return uint64(s.ballast.Size()) //nolint:gosec // not negative
}

// CompactRange reclaims the space of trimmed records in [from, to). If receivers is set,
// it also reclaims the space of all receivers of removed broadcasts. Deleted or replaced
// data stays on disk until Pebble has rewritten the tables that contain it. The
// compaction writes the remaining data first, so it needs some space itself, for which
// there are the ballast and the watermark. Callers should pass a range no larger than
// they need.
//
// It returns [ErrDiskFull] if the ballast is gone and there is too little space for a
// compaction.
func (s *Store) CompactRange(ctx context.Context, from, to uint64, receivers bool) error {
	if s.compactions != nil && !s.compactions.HasSpace() {
		return ErrDiskFull
	}
	err := s.db.Compact(ctx, schema.NumberKey(schema.TableLog, from), schema.NumberKey(schema.TableLog, to), false)
	if err == nil && receivers {
		err = s.db.Compact(ctx, []byte{schema.TableReceivers}, []byte{schema.TableReceivers + 1}, false)
	}
	if layout.IsDiskFull(err) {
		return fmt.Errorf("%w: %w", layout.ErrDiskFull, err)
	}
	return err
}
