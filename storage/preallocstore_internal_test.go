package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

// preallocStore is a store whose logs are preallocated.
type preallocStore struct {
	*Store

	t    *testing.T
	meta schema.Meta
}

func newSpareStore(t *testing.T) *preallocStore {
	t.Helper()
	s := openDisk(t, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { storagetest.Close(t, s) })
	store := &preallocStore{Store: s, t: t, meta: s.Meta()}
	store.waitForPreallocated()
	return store
}

// waitForPreallocated waits until all preallocated logs are ready.
func (s *preallocStore) waitForPreallocated() {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.prealloc.Bytes() < diskfs.PreallocCount<<20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("no logs are preallocated")
		}
	}
}

// commit commits one record of a thousand bytes.
func (s *preallocStore) commit() {
	s.meta.Last++
	b := s.NewBatch()
	b.PutRecord(s.meta.Last, 1000, func(dst []byte) { copy(dst, "body") })
	b.PutMeta(s.meta)
	b.Commit()
	b.Close()
}

func (s *preallocStore) log() string {
	s.t.Helper()
	return filetest.NewestFile(s.t, filepath.Join(s.Dir(), layout.MessagesDir, "*.log"))
}

// nextLog commits until there is another log, which must be a preallocated one.
func (s *preallocStore) nextLog() {
	s.t.Helper()
	for log := s.log(); s.log() == log; {
		s.commit()
	}
	if info, err := os.Stat(s.log()); err != nil || info.Size() != 1<<20 {
		s.t.Errorf("the log was not preallocated: %v, %v", info, err)
	}
}

// crashed returns a copy of the files as a crash would leave them.
func (s *preallocStore) crashed() (dir string) {
	s.t.Helper()
	if err := s.Control().SaveWatermark(controlfile.Watermark{Sequence: s.meta.Last, Generation: s.meta.Generation}); err != nil {
		s.t.Fatal(err)
	}
	dir = filepath.Join(s.t.TempDir(), "data")
	s.copyMessages(filepath.Join(dir, layout.MessagesDir))
	control, err := os.ReadFile(filepath.Join(s.Dir(), layout.ControlName))
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, layout.ControlName), control, 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// copyMessages copies the database. It repeats the copy if a flush or compaction came in
// between, because a crash leaves the state of one moment.
func (s *preallocStore) copyMessages(to string) {
	s.t.Helper()
	from := filepath.Join(s.Dir(), layout.MessagesDir)
	for deadline := time.Now().Add(20 * time.Second); ; {
		before := s.files()
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil && s.files() == before {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the database does not become idle: %v", err)
		}
		if err := os.RemoveAll(to); err != nil {
			s.t.Fatal(err)
		}
	}
}

// files lists the files of the database, without preallocated logs.
func (s *preallocStore) files() (told string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir(), layout.MessagesDir))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); !strings.HasPrefix(e.Name(), diskfs.PreallocPrefix) {
			if err != nil {
				return time.Now().String() // it was removed meanwhile; differs from every other list
			}
			told += fmt.Sprintln(e.Name(), info.Size())
		}
	}
	return told
}

// wantWhole opens a copy as a crash would leave it.
func (s *preallocStore) wantWhole() {
	s.t.Helper()
	again := openDisk(s.t, s.crashed())
	if got := again.Meta().Last; got != s.meta.Last {
		s.t.Errorf("%d records came back of %d", got, s.meta.Last)
	}
	storagetest.Close(s.t, again)
}

// TestACrashWithAPreallocatedLog crashes at the first record of each log, and later. The end
// of the log is found among the zeros, and everything before it is complete.
func TestACrashWithAPreallocatedLog(t *testing.T) {
	s := newSpareStore(t)
	for range 4 {
		s.nextLog()
		s.wantWhole()
		for range 100 {
			s.commit()
		}
		s.wantWhole()
		s.waitForPreallocated()
	}
}

// TestAFlippedBitAmongZerosIsDamage flips a bit before the last block of a log. It is not
// mistaken for the end.
func TestAFlippedBitAmongZerosIsDamage(t *testing.T) {
	s := newSpareStore(t)
	s.nextLog()
	for range 100 {
		s.commit()
	}
	dir := s.crashed()
	filetest.FlipByte(t, filepath.Join(dir, layout.MessagesDir, filepath.Base(s.log())), 20_000)
	wantRefused(t, dir, layout.ErrCorrupt)
	report, err := fsck.Verify(checkConfig(dir))
	if err != nil || report.Found != 1 || !strings.Contains(report.Problems[0].What, "invalid chunk") {
		t.Errorf("the check found %v, %v", report.Problems, err)
	}
}

// TestAFullDiskRemovesPreallocatedLogsOfAStore shows that preallocated logs are released with the
// ballast, and count as disk space until then.
func TestAFullDiskRemovesPreallocatedLogsOfAStore(t *testing.T) {
	s := newSpareStore(t)
	before := s.Stats().Bytes
	if !s.releaseBallast() {
		t.Error("the reserve was not held")
	}
	if names, err := filepath.Glob(filepath.Join(s.Dir(), layout.MessagesDir, diskfs.PreallocPrefix+"*")); err != nil || len(names) > 0 {
		t.Errorf("on a full disk %v exist (%v)", names, err)
	}
	if after := s.Stats().Bytes; before < after+diskfs.PreallocCount<<20 {
		t.Errorf("the store takes %d bytes with two preallocated logs, and %d without", before, after)
	}
}

func TestPreallocatedLogsLeaveMinFree(t *testing.T) {
	dir := t.TempDir()
	free, err := layout.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	for minFree, want := range map[uint64]bool{0: true, free / 2: true, 2 * free: false} {
		s := &Store{config: Config{Dir: dir, MinFree: minFree}}
		room, err := s.spaceAboveMinFree()
		if err != nil || (room > 0) != want || room > 2*free-minFree {
			t.Errorf("with %d of %d to stay free, %d are spare (%v)", minFree, free, room, err)
		}
	}
}
