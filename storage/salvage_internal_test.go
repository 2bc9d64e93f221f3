package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tables makes a store with a table for each page of records, and gives its
// database's directory.
func tables(t *testing.T, pages, records, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	rnd := rand.New(rand.NewPCG(1, 2))
	meta := s.Meta()
	for range pages {
		b := s.NewBatch()
		for range records {
			meta.Last++
			putRubbish(b, meta.Last, size, rnd)
		}
		b.PutMeta(meta)
		b.Commit()
		b.Close()
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	return filepath.Join(dir, messagesDir)
}

// putRubbish puts a record of a size that no library makes smaller.
func putRubbish(b *Batch, seq uint64, size int, rnd *rand.Rand) {
	b.PutRecord(seq, size, func(dst []byte) {
		for i := range dst {
			dst[i] = byte(rnd.Uint32())
		}
	})
}

// salvaged counts the records that can be salvaged.
func salvaged(dir string) (records int, problems uint64) {
	s := &salvager{dir: dir, report: new(Report)}
	for key := range s.merged() {
		if key[0] == tableLog {
			records++
		}
	}
	return records, s.report.Found
}

// TestSalvagePassesOverLargeDamagedBlocksInTime: the library spends seconds on each
// look at a large block that is damaged.
func TestSalvagePassesOverLargeDamagedBlocksInTime(t *testing.T) {
	dir := tables(t, 1, 40, 20_000)
	name := largestFile(t, filepath.Join(dir, "*.sst"))
	for _, at := range []int64{30_000, 200_000, 500_000} {
		zero(t, name, at, 100)
	}
	began := time.Now()
	records, problems := salvaged(dir)
	if records < 30 || records > 37 || problems != 3 {
		t.Errorf("%d of 40 records, %d problems", records, problems)
	}
	if spent := time.Since(began); spent > 20*time.Second {
		t.Errorf("it took %s", spent)
	}
}

// TestSalvageKeepsATableWithoutItsRangeDeletes: which ranges a table removes is in a
// block of its own.
func TestSalvageKeepsATableWithoutItsRangeDeletes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	fill(t, s, 50)
	err := s.db.Flush()
	b := s.NewBatch()
	b.TrimLog(11, 1)
	b.Commit()
	b.Close()
	if err = errors.Join(err, s.db.Flush()); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	dir = filepath.Join(dir, messagesDir)
	for _, name := range glob(t, filepath.Join(dir, "*.sst")) {
		spoilRangeDeletes(t, name)
	}
	// The ten that were removed may come back; a repair drops them by the floor.
	if records, problems := salvaged(dir); records < 40 || problems != 1 {
		t.Errorf("%d of 50 records, %d problems", records, problems)
	}
}

// spoilRangeDeletes zeroes bytes of a table so that its range deletes cannot be
// read, and all else can.
func spoilRangeDeletes(t *testing.T, name string) {
	t.Helper()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		broken := bytes.Clone(whole)
		broken[at] ^= 1
		if err := os.WriteFile(name, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		r, _, err := openTable(name)
		if err != nil {
			continue
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := rangeDeletes(name); err != nil {
			return
		}
	}
	if err := os.WriteFile(name, whole, 0o600); err != nil { // it has none
		t.Fatal(err)
	}
}

// TestRepairUsesTablesThatTheManifestDoesNotName: one whose end is gone opens well,
// as an older one.
func TestRepairUsesTablesThatTheManifestDoesNotName(t *testing.T) {
	dir := tables(t, 2, 10, 100)
	for _, name := range glob(t, filepath.Join(dir, "*.log")) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	manifest := newestFile(t, filepath.Join(dir, "MANIFEST-*"))
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	config := repairConfig(filepath.Dir(dir))
	r := newRepairer(config, &Repaired{})
	for end := len(whole) - 1; ; end-- {
		if end == 0 {
			t.Fatal("no cut leaves a table that the manifest does not name")
		}
		cut := append(bytes.Clone(whole[:end]), make([]byte, len(whole)-end)...)
		if err := os.WriteFile(manifest, cut, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := r.store.readPebble(dir)
		if err != nil {
			continue
		}
		uses := r.usesAllTables(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if !uses {
			break
		}
	}
	if report, err := Verify(config); err != nil || report.Found != 1 || !strings.Contains(report.Problems[0].What, "not named") {
		t.Errorf("%+v (%v)", report, err)
	}
	if done, err := Repair(config); err != nil || done.After.Found > 0 || done.After.Records != 20 || len(done.Lost) > 0 {
		t.Errorf("%+v (%v)", done, err)
	}
}

func TestRepairBeginsBehindALostFront(t *testing.T) {
	dir := tables(t, 2, 10, 100)
	first := uint64(0)
	for _, name := range glob(t, filepath.Join(dir, "*.sst")) {
		seqs := recordsIn(name)
		if !slices.Contains(seqs, 1) {
			continue
		}
		first = slices.Max(seqs) + 1
		if err := os.Truncate(name, 1<<10); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Repair(repairConfig(filepath.Dir(dir)))
	if err != nil || done.After.Found > 0 || done.After.First != first || done.After.Last != 20 || done.After.Lost != 0 {
		t.Errorf("%+v (%v)", done.After, err)
	}
	if len(done.Lost) != 1 || done.Lost[0] != (LostRange{1, first - 1}) {
		t.Errorf("lost %v, and it begins at %d", done.Lost, first)
	}
}

// TestVerifyLeavesWhatRetentionHasNotRemovedYet: the floor is moved first.
func TestVerifyLeavesWhatRetentionHasNotRemovedYet(t *testing.T) {
	dir := filled(t, func(s *Store) {
		b := s.NewBatch()
		defer b.Close()
		meta := s.Meta()
		meta.Last, meta.Floor = 20, 9
		b.PutMeta(meta)
		b.Commit()
	})
	if report, err := Verify(repairConfig(dir)); err != nil || report.Found > 0 || report.Records != 12 {
		t.Errorf("%+v (%v)", report, err)
	}
}

// TestIDSet: it has what was added, and nothing else.
func TestIDSet(t *testing.T) {
	var s idSet
	for n := range uint64(1000) {
		s.add(setID(n))
	}
	for n := range uint64(2000) {
		if s.has(setID(n)) != (n < 1000) {
			t.Errorf("%d", n)
		}
	}
}

func setID(n uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// recordsIn are the sequences of the records that stand in a table.
func recordsIn(table string) (seqs []uint64) {
	s := &salvager{dir: filepath.Dir(table), report: new(Report)}
	for v := range s.table(table) {
		if seq, err := parseNumberKey(v.key); err == nil && v.key[0] == tableLog {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s (%v)", pattern, err)
	}
	return names
}

func largestFile(t *testing.T, pattern string) (largest string) {
	t.Helper()
	size := int64(-1)
	for _, name := range glob(t, pattern) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			largest, size = name, info.Size()
		}
	}
	return largest
}

func zero(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
