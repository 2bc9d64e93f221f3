package repair

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// storeOfTables creates a store with a table for each page of records, and returns its
// database's directory.
func storeOfTables(t *testing.T, pages, records, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	storagetest.Close(t, openDisk(t, dir))
	rnd := rand.New(rand.NewPCG(1, 2))
	db := storagetest.OpenDatabase(t, dir)
	for range pages {
		storagetest.Change(t, db, func(b *tables.Batch, meta schema.Meta) {
			for range records {
				meta.Last++
				putRubbish(b, meta.Last, size, rnd)
			}
			b.PutMeta(meta)
		})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return layout.Messages(dir)
}

// putRubbish writes an incompressible record of a size.
func putRubbish(b *tables.Batch, seq uint64, size int, rnd *rand.Rand) {
	b.PutRecord(seq, size, func(dst []byte) {
		for i := range dst {
			dst[i] = byte(rnd.Uint32())
		}
	})
}

// salvaged returns the number of records that can be salvaged.
func salvaged(dir string) (records int, problems uint64) {
	s := &salvager{dir: dir, report: new(fsck.Report)}
	for key := range s.merged() {
		if key[0] == schema.TableLog {
			records++
		}
	}
	return records, s.report.Found
}

// TestSalvagePassesOverLargeDamagedBlocksInTime shows that large damaged blocks are
// skipped quickly. Pebble spends seconds on each read of such a block.
func TestSalvagePassesOverLargeDamagedBlocksInTime(t *testing.T) {
	dir := storeOfTables(t, 1, 40, 20_000)
	name := filetest.LargestFile(t, filepath.Join(dir, "*.sst"))
	for _, at := range []int64{30_000, 200_000, 500_000} {
		storagetest.Zero(t, name, at, 100)
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

// TestSalvageKeepsATableWithoutItsRangeDeletes shows that a table with unreadable range
// deletes is read. They are in a separate block.
func TestSalvageKeepsATableWithoutItsRangeDeletes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 50)
	storagetest.Close(t, s)
	storagetest.Flush(t, dir)
	db := storagetest.OpenDatabase(t, dir)
	storagetest.Change(t, db, func(b *tables.Batch, _ schema.Meta) { b.TrimLog(11, 1) })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, layout.MessagesDir)
	for _, name := range filetest.Glob(t, filepath.Join(dir, "*.sst")) {
		spoilRangeDeletes(t, name)
	}
	// The ten removed records may come back. A repair drops them, because they are before
	// the first sequence.
	if records, problems := salvaged(dir); records < 40 || problems != 1 {
		t.Errorf("%d of 50 records, %d problems", records, problems)
	}
}

// spoilRangeDeletes changes a byte of a table so that only its range deletes become
// unreadable.
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
		r, _, err := pebbledb.OpenTable(name)
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

// TestRepairUsesTablesThatTheManifestDoesNotName: a truncated manifest opens without an
// error, as an older manifest.
func TestRepairUsesTablesThatTheManifestDoesNotName(t *testing.T) {
	dir := storeOfTables(t, 2, 10, 100)
	for _, name := range filetest.Glob(t, filepath.Join(dir, "*.log")) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	manifest := filetest.NewestFile(t, filepath.Join(dir, "MANIFEST-*"))
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	config := repairConfig(filepath.Dir(dir))
	r := newRepairer(config, &Repaired{})
	for end := len(whole) - 1; ; end-- {
		if end == 0 {
			t.Fatal("every truncated manifest names all tables")
		}
		cut := append(bytes.Clone(whole[:end]), make([]byte, len(whole)-end)...)
		if err := os.WriteFile(manifest, cut, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := pebbledb.OpenReadOnly(dir, pebbleConfig(vfs.Default))
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
	if report, err := fsck.Verify(config); err != nil || report.Found != 1 || !strings.Contains(report.Problems[0].What, "not named") {
		t.Errorf("%+v (%v)", report, err)
	}
	if done, err := Repair(config); err != nil || done.After.Found > 0 || done.After.Records != 20 || len(done.Lost) > 0 {
		t.Errorf("%+v (%v)", done, err)
	}
}

func TestRepairBeginsBehindALostFront(t *testing.T) {
	dir := storeOfTables(t, 2, 10, 100)
	first := uint64(0)
	for _, name := range filetest.Glob(t, filepath.Join(dir, "*.sst")) {
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
		t.Errorf("lost %v, but the log begins at %d", done.Lost, first)
	}
}

// TestVerifyCountsWhatWasTrimmed shows that a check verifies the count of trimmed
// messages, which the backend does not get.
func TestVerifyCountsWhatWasTrimmed(t *testing.T) {
	dir := filled(t, func(s *storage.Store) {
		b := s.NewBatch()
		defer b.Close()
		meta := s.Meta()
		meta.Last, meta.FirstSequence, meta.Trimmed = 20, 9, 5
		b.PutPosition(messaging.Position{Sequence: 3})
		b.PutMeta(meta)
		b.Commit()
	})
	want := fsck.Problem{Where: "table m (meta)", What: "has a count of 5 for messages trimmed after the drain's position; found: 6"}
	report, err := fsck.Verify(repairConfig(dir))
	if err != nil || report.Found != 1 || report.Problems[0] != want {
		t.Errorf("%+v (%v)", report, err)
	}
	done, err := Repair(repairConfig(dir))
	if err != nil || done.After.Found > 0 {
		t.Errorf("the repair: %+v (%v)", done.After, err)
	}
}

// recordsIn returns the sequences of the records in a table.
func recordsIn(table string) (seqs []uint64) {
	s := &salvager{dir: filepath.Dir(table), report: new(fsck.Report)}
	for v := range s.table(table) {
		if seq, err := schema.ParseNumberKey(v.key); err == nil && v.key[0] == schema.TableLog {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}
