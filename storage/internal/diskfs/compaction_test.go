package diskfs_test

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/diskfs"
)

const compaction = vfs.DiskWriteCategory("pebble-compaction")

// limit returns a limit of 10 MiB on a disk whose free space and ballast the test sets.
func limit(free *atomic.Uint64, held, stopped *bool) *diskfs.CompactionLimit {
	return &diskfs.CompactionLimit{
		FS: vfs.NewMem(), Failing: vfs.NewMem(), Floor: 10 << 20,
		Held: func() bool { return *held }, Free: func() (uint64, error) { return free.Load(), nil }, Stopped: func() bool { return *stopped },
	}
}

// TestACompactionFailsBelowTheFloor shows that a compaction that began with enough space
// fails at the floor, but only without a ballast. Other files are not limited.
func TestACompactionFailsBelowTheFloor(t *testing.T) {
	var free atomic.Uint64
	free.Store(20 << 20)
	held, stopped := true, false
	l := limit(&free, &held, &stopped)
	table, err := l.Create("000001.sst", compaction)
	if err != nil {
		t.Fatal(err)
	}
	log, err := l.Create("000002.log", "pebble-wal")
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 256<<10)
	write := func(f vfs.File) error { _, err := f.Write(block); return err }
	if err := write(table); err != nil {
		t.Errorf("with space: %v", err)
	}
	free.Store(1 << 20)
	if err := write(table); err != nil {
		t.Errorf("with a ballast: %v", err)
	}
	held = false
	if err := write(table); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without space: %v", err)
	}
	if err := write(log); err != nil {
		t.Errorf("a write of the log: %v", err)
	}
	free.Store(10 << 20)
	if err := write(table); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if err := errors.Join(table.Close(), log.Close()); err != nil {
		t.Error(err)
	}
}

// TestACompactionBeginsWithSpace shows that the first file of a compaction waits up to a
// second for space, so a failed compaction is not retried at once. After a stop it does
// not wait.
func TestACompactionBeginsWithSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Uint64
		free.Store(1 << 20)
		held, stopped := false, false
		l := limit(&free, &held, &stopped)
		create := func() (time.Duration, error) {
			began := time.Now()
			f, err := l.Create("000001.sst", compaction)
			if err == nil {
				err = f.Close()
			}
			return time.Since(began), err
		}
		if took, err := create(); !errors.Is(err, syscall.ENOSPC) || took < time.Second || took > 2*time.Second {
			t.Errorf("without space: %v after %s", err, took)
		}
		time.AfterFunc(300*time.Millisecond, func() { free.Store(10 << 20) })
		if took, err := create(); err != nil || took > 500*time.Millisecond {
			t.Errorf("with space after 300 ms: %v after %s", err, took)
		}
		free.Store(0)
		stopped = true
		if took, err := create(); !errors.Is(err, syscall.ENOSPC) || took > 0 {
			t.Errorf("at a stop: %v after %s", err, took)
		}
	})
}
