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

// diskFull is what the store knows of a full disk.
type diskFull struct {
	opening atomic.Bool // a flush that fails now would be tried for ever
	told    atomic.Bool // the log has said that writes wait for room
	closing atomic.Bool // the service stops, and writes do not wait any more
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

// releaseBallast releases the ballast; false says that there was none left.
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

// waitForSpace returns when there is room again, or the service stops. All writes
// of the database wait meanwhile: Pebble would end the process when its
// write-ahead log or manifest cannot be written, and try a flush again at once.
// Nothing is answered meanwhile, and readiness turns red (a commit has a
// deadline).
func (s *Store) waitForSpace() {
	if s.full.opening.Load() {
		return // the start says so, and ends
	}
	if s.full.told.CompareAndSwap(false, true) {
		s.logger.Error("the disk is full and the reserve is used up: writes wait for room; free some space", "dir", s.config.Dir)
	}
	diskfs.WaitForSpace(s.config.Dir, s.full.closing.Load)
}

// StopWaiting lets writes fail that wait for room on a full disk: the process
// ends then, without having acknowledged them. It is called when the service
// stops, which must not take for ever.
func (s *Store) StopWaiting() { s.full.closing.Store(true) }

// backgroundDiskFull hears of background work of Pebble's that failed on a full
// disk and is tried again. The log has said so already. Where it keeps the store
// from opening, the work would be tried forever, and the process ends instead.
func (s *Store) backgroundDiskFull(err error) {
	if s.full.opening.Load() {
		s.fatal("open the store", fmt.Errorf("%w: %w", layout.ErrDiskFull, err))
	}
}

// openRoom is how much of the disk a start needs besides what it recovers from
// the write-ahead log: a new log, a manifest, and the first commits.
const openRoom = 64 << 20

// useBallast takes the ballast. Where there is no room for it, because the
// last run gave it free and the disk is still full, a start takes what there is
// if that is enough to recover with: then messages can be taken, which is what
// makes room. Otherwise opening the database would hang.
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
	need := s.walBytes() + openRoom
	if free < uint64(need) { //nolint:gosec // sizes of files
		return fmt.Errorf("%w: there is no room for the reserve of %d MiB beside %s, nor the %d MiB that a start needs without it (%d MiB are free); free some space and start again",
			layout.ErrDiskFull, s.ballast.Size()>>20, s.path(layout.BallastName), need>>20, free>>20)
	}
	s.logger.Warn("the disk is nearly full: there is no room for the reserve; sends are refused until there is; free some space",
		"free_bytes", free, "reserve_bytes", s.ballast.Size())
	return nil
}

// walBytes is how much a start may have to flush.
func (s *Store) walBytes() (n int64) {
	files, err := os.ReadDir(s.path(layout.MessagesDir))
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

// RestoreBallast takes the ballast again once there is room for it. It does
// nothing while the ballast is held.
func (s *Store) RestoreBallast() error {
	if s.ballast == nil {
		return nil
	}
	err := s.ballast.Restore()
	if err == nil {
		s.full.told.Store(false)
	}
	return err
}

// BallastMissing is how many bytes the ballast lacks; more than 0 means that the
// disk was full not long ago.
func (s *Store) BallastMissing() uint64 {
	if s.ballast == nil || s.ballast.IsHeld() {
		return 0
	}
	return uint64(s.ballast.Size()) //nolint:gosec // not negative
}

// CompactRange gives back the room of records in [from, to) that were trimmed, and
// with receivers set that of all receivers of broadcasts that are gone. What was
// deleted or replaced is still on disk until Pebble has rewritten the tables
// that it is in. That writes first what stays, so it needs some room itself:
// that is what the ballast and the watermark are for, and why a range should be
// no larger than what is needed.
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
