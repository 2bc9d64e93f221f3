package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/repair"
)

func TestFact2WatermarkFindsAMissingWAL(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 5)
	storagetest.Close(t, s)
	logs, err := filepath.Glob(filepath.Join(dir, layout.MessagesDir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	for _, name := range logs {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, dir, layout.ErrCorrupt)
}

func TestFact1CutWALIsFound(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 50)
	storagetest.Close(t, s)
	logs, _ := filepath.Glob(filepath.Join(dir, layout.MessagesDir, "*.log"))
	for _, name := range logs {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, dir, layout.ErrCorrupt)
}

// The watermark is up to a second old. Newer damage must be detected in the WAL itself,
// including the first one of a new store.
func TestFact1FlippedByteInTheFirstWALIsFound(t *testing.T) {
	for _, at := range []int64{2_000, 20_000, 50_000} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir)
			meta := s.Meta()
			for meta.Last < 100 {
				meta.Last++
				b := s.NewBatch()
				b.PutRecord(meta.Last, 1000, func(dst []byte) { dst[0] = 'x' })
				b.PutMeta(meta)
				b.Commit()
				b.Close()
			}
			storagetest.Close(t, s)
			flipInLargest(t, filepath.Join(dir, layout.MessagesDir, "*.log"), at)
			wantRefused(t, dir, layout.ErrCorrupt)
		})
	}
}

// The WAL of a store's creation is in the old format, in which damage is not detected. So
// nothing may depend on it.
func TestFact1NewStoreDoesNotNeedTheWALOfItsMaking(t *testing.T) {
	dir := t.TempDir()
	maker := &Store{config: Config{Dir: dir, MemTableBytes: 1 << 20}, logger: slog.New(slog.DiscardHandler)}
	if err := errors.Join(maker.create(), maker.closeAll()); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, layout.MessagesDir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	for _, name := range logs {
		if err := os.Truncate(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	s := openDisk(t, dir)
	if m := s.Meta(); m.FirstSequence != 1 || m.Generation != 1 {
		t.Errorf("%+v", m)
	}
	storagetest.Close(t, s)
}

// flipInLargest changes one byte of the largest matching file.
func flipInLargest(t *testing.T, pattern string, at int64) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var largest []byte
	var where string
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(largest) {
			largest, where = b, name
		}
	}
	if int64(len(largest)) <= at {
		t.Fatalf("the largest of %v has %d bytes", names, len(largest))
	}
	largest[at] ^= 0x10
	if err := os.WriteFile(where, largest, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The database has no damage by its own checksums, but it does not have the log that was
// written.
func TestFact2GapAmongTheLastRecordsIsFound(t *testing.T) {
	for name, sequences := range map[string][]uint64{
		"a record is missing": {1, 2, 4, 5}, "the first is missing": {2, 3, 4, 5}, "the last is missing": {1, 2, 3, 4}, "one too many": {1, 2, 3, 4, 5, 6},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir)
			b := s.NewBatch()
			for _, seq := range sequences {
				b.PutRecord(seq, 4, func(dst []byte) { copy(dst, "body") })
			}
			meta := s.Meta()
			meta.Last = 5
			b.PutMeta(meta)
			b.Commit()
			b.Close()
			storagetest.Close(t, s)
			wantRefused(t, dir, layout.ErrCorrupt)
		})
	}
}

func TestHalfAStoreIsRefused(t *testing.T) {
	for _, missing := range []string{layout.ControlName, layout.MessagesDir} {
		t.Run(missing, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir)
			storagetest.Fill(t, s, 3)
			storagetest.Close(t, s)
			if err := os.RemoveAll(filepath.Join(dir, missing)); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, dir, layout.ErrCorrupt)
		})
	}
}

func TestFact3DamagedControlFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 3)
	storagetest.Close(t, s)
	path := filepath.Join(dir, layout.ControlName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string][]byte{
		"empty": {}, "short": whole[:4096], "cut": whole[:3*4096], "zeros": make([]byte, len(whole)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, damage, 0o600); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, dir, layout.ErrCorrupt)
		})
	}
}

func TestOneCopyOfTheControlStateIsEnough(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 3)
	if err := s.controlFile.Update(func(tx controlfile.Tx) error {
		for _, key := range []string{controlfile.KeyIdentity, controlfile.KeyWatermark} {
			if err := tx.Put(controlfile.StateBuckets()[0], key, []byte("rubbish")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	storagetest.Close(t, s)
	s = openDisk(t, dir)
	if s.Meta().Last != 3 {
		t.Errorf("%+v", s.Meta())
	}
	storagetest.Close(t, s)
}

func TestStoreOfAnotherDirectoryIsRefused(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		s := openDisk(t, dir)
		storagetest.Fill(t, s, 3)
		storagetest.Close(t, s)
	}
	if err := os.Rename(filepath.Join(b, layout.ControlName), filepath.Join(a, layout.ControlName)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, a, layout.ErrCorrupt)
}

// TestWhatTheLibraryDoesNotCallCorruptionIsDamageToo shows that a start ends with the
// status of a damaged store even if Pebble does not report corruption.
func TestWhatTheLibraryDoesNotCallCorruptionIsDamageToo(t *testing.T) {
	for pattern, cut := range map[string]func(b []byte) int{
		"*.sst":     func(b []byte) int { return len(b) / 2 },
		"OPTIONS-*": func(b []byte) int { return bytes.Index(b, []byte("Comparator")) }, // within a name
	} {
		dir := filled(t, func(s *Store) {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		})
		name := filetest.NewestFile(t, filepath.Join(dir, layout.MessagesDir, pattern))
		b, err := os.ReadFile(name)
		if err = errors.Join(err, os.Truncate(name, int64(cut(b)))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir}); !errors.Is(err, layout.ErrCorrupt) {
			t.Errorf("%s is cut: %v", pattern, err)
		}
	}
}

// filled returns a closed store with some records.
func filled(t *testing.T, change func(s *Store)) string {
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

// TestStartOverAManifestInALogsPlaceIsRefused puts a manifest in place of a log. Pebble
// takes its records for batches, and indexes past the end of a truncated one.
func TestStartOverAManifestInALogsPlaceIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 3)
	storagetest.Close(t, s)
	var manifest bytes.Buffer
	w := record.NewWriter(&manifest)
	_, err := w.WriteRecord([]byte{0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, byte(pebble.InternalKeyKindSet)})
	log := filetest.NewestFile(t, filepath.Join(dir, layout.MessagesDir, "*.log"))
	if err := errors.Join(err, w.Close(), os.WriteFile(log, manifest.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, layout.ErrCorrupt)
	report, err := fsck.Verify(checkConfig(dir))
	if err != nil || report.Found == 0 {
		t.Errorf("a check finds %+v (%v)", report, err)
	}
	if done, err := repair.Repair(checkConfig(dir)); err != nil || done.After.Found > 0 {
		t.Errorf("%+v (%v)", done, err)
	}
}
