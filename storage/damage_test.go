package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestFact2WatermarkFindsAMissingWAL(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	fill(t, s, 5)
	closeStore(t, s)
	logs, err := filepath.Glob(filepath.Join(dir, messagesDir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	for _, name := range logs {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, dir, ErrDamaged)
}

func TestFact1CutWALIsFound(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	fill(t, s, 50)
	closeStore(t, s)
	logs, _ := filepath.Glob(filepath.Join(dir, messagesDir, "*.log"))
	for _, name := range logs {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, dir, ErrDamaged)
}

// The watermark lags behind by up to a second; for what is newer, the WAL itself
// must show that it was changed, the first one of a new store too.
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
			closeStore(t, s)
			flipInLargest(t, filepath.Join(dir, messagesDir, "*.log"), at)
			wantRefused(t, dir, ErrDamaged)
		})
	}
}

// The very first WAL, of the making of a store, is in the old format, in which
// damage goes unseen: so nothing may depend on it.
func TestFact1NewStoreDoesNotNeedTheWALOfItsMaking(t *testing.T) {
	dir := t.TempDir()
	maker := &Store{config: Config{Dir: dir, MemTableBytes: 1 << 20}, logger: slog.New(slog.DiscardHandler)}
	if err := errors.Join(maker.create(), maker.closeAll()); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, messagesDir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	for _, name := range logs {
		if err := os.Truncate(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	s := openDisk(t, dir)
	if m := s.Meta(); m.Floor != 1 || m.Generation != 1 {
		t.Errorf("%+v", m)
	}
	closeStore(t, s)
}

// flipInLargest changes one byte of the largest of some files.
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

// What the database holds is whole by its own checksums, and yet not the log
// that was written.
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
			closeStore(t, s)
			wantRefused(t, dir, ErrDamaged)
		})
	}
}

func TestHalfAStoreIsRefused(t *testing.T) {
	for _, missing := range []string{controlName, messagesDir} {
		t.Run(missing, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir)
			fill(t, s, 3)
			closeStore(t, s)
			if err := os.RemoveAll(filepath.Join(dir, missing)); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, dir, ErrDamaged)
		})
	}
}

func TestFact3DamagedControlFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	fill(t, s, 3)
	closeStore(t, s)
	path := filepath.Join(dir, controlName)
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
			wantRefused(t, dir, ErrDamaged)
		})
	}
}

func TestOneCopyOfTheControlStateIsEnough(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	fill(t, s, 3)
	if err := s.control.file.Update(func(tx ControlTx) error {
		for _, key := range []string{keyIdentity, keyWatermark} {
			if err := tx.Put(bucketState, key, []byte("rubbish")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openDisk(t, dir)
	if s.Meta().Last != 3 {
		t.Errorf("%+v", s.Meta())
	}
	closeStore(t, s)
}

func TestStoreOfAnotherDirectoryIsRefused(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		s := openDisk(t, dir)
		fill(t, s, 3)
		closeStore(t, s)
	}
	if err := os.Rename(filepath.Join(b, controlName), filepath.Join(a, controlName)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, a, ErrDamaged)
}
