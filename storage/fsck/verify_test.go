package fsck

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

func openDisk(t *testing.T, dir string) *storage.Store {
	t.Helper()
	s, err := storage.Open(storage.Config{Dir: dir, MemTableBytes: 1 << 20, Fatal: func(err error) { t.Fatal(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func checkConfig(dir string) Config { return Config{Dir: dir, Codec: storagetest.Codec()} }

// filled returns a closed store with some records.
func filled(t *testing.T, change func(s *storage.Store)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 20)
	if change != nil {
		change(s)
	}
	storagetest.Close(t, s)
	return dir
}

// TestVerifyMakesNoLock shows that a check does not create Pebble's lock file if it is
// missing.
func TestVerifyMakesNoLock(t *testing.T) {
	dir := filled(t, nil)
	lock := filepath.Join(dir, layout.MessagesDir, "LOCK")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(checkConfig(dir)); err != nil || report.Found > 0 {
		t.Errorf("%+v (%v)", report, err)
	}
	if _, err := os.Stat(lock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}

// TestVerifyTablesWaitsForOneThatIsBeingWritten shows that half a table is not damage
// while it grows.
func TestVerifyTablesWaitsForOneThatIsBeingWritten(t *testing.T) {
	dir := filled(t, nil)
	storagetest.Flush(t, dir)
	table := filetest.NewestFile(t, filepath.Join(dir, layout.MessagesDir, "*.sst"))
	whole, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	growing := filepath.Join(dir, layout.MessagesDir, "999999.sst")
	if err := os.WriteFile(growing, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() {
		time.Sleep(3 * tableAgain)
		written <- os.WriteFile(growing, whole, 0o600)
	}()
	tables, report, err := VerifyTables(dir, nil)
	if err != nil || report.Found > 0 || tables < 2 {
		t.Errorf("%d tables: %+v (%v)", tables, report, err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(growing, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(growing, time.Time{}, time.Now().Add(-2*tableQuietTime)); err != nil {
		t.Fatal(err)
	}
	if _, report, err := VerifyTables(dir, nil); err != nil || report.Found != 1 {
		t.Errorf("half a table that is old: %+v (%v)", report, err)
	}
}

// TestVerifyLeavesWhatRetentionHasNotRemovedYet shows that records before the first
// sequence are not problems. Retention moves the first sequence before it removes them.
func TestVerifyLeavesWhatRetentionHasNotRemovedYet(t *testing.T) {
	dir := filled(t, func(s *storage.Store) {
		b := s.NewBatch()
		defer b.Close()
		meta := s.Meta()
		meta.Last, meta.FirstSequence, meta.Trimmed = 20, 9, 8
		b.PutMeta(meta)
		b.Commit()
	})
	if report, err := Verify(checkConfig(dir)); err != nil || report.Found > 0 || report.Records != 12 {
		t.Errorf("%+v (%v)", report, err)
	}
}
