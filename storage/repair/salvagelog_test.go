package repair

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

// loggedBatch is a batch of a log and its offsets in the file.
type loggedBatch struct {
	from, to int
	data     string
}

// logOfBatches creates a store and returns the path of one of its logs. The log's batches
// have sizes from some bytes to several blocks.
func logOfBatches(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	rnd := rand.New(rand.NewPCG(3, 4))
	meta := s.Meta()
	for i := range 60 {
		size := rnd.IntN(2000)
		if i%7 == 3 {
			size = rnd.IntN(4 * logBlock)
		}
		b := s.NewBatch()
		meta.Last++
		putRubbish(b, meta.Last, size, rnd)
		b.PutMeta(meta)
		b.Commit()
		b.Close()
	}
	storagetest.Close(t, s)
	return filetest.LargestFile(t, filepath.Join(dir, layout.MessagesDir, "*.log"))
}

func logNumber(t *testing.T, path string) uint64 {
	t.Helper()
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".log"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// batchesByTheLibrary reads an undamaged log with Pebble.
func batchesByTheLibrary(t *testing.T, path string) (batches []loggedBatch) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for r := record.NewReader(bytes.NewReader(data), as(logNumber(t, path), pebble.WALCreateInfo{}.FileNum)); ; {
		from := int(r.Offset())
		one, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		batch, err := io.ReadAll(one)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, loggedBatch{from, int(r.Offset()), string(batch)})
	}
	if len(batches) < 15 {
		t.Fatalf("%d batches in %s", len(batches), path)
	}
	return batches
}

// TestSalvageReadsABatchWholeOrNotAtAll damages logs at random. Every batch that is read
// was written, and every batch without damage in its blocks is read. A damaged length has
// no effect beyond its block.
func TestSalvageReadsABatchWholeOrNotAtAll(t *testing.T) {
	path := logOfBatches(t)
	batches := batchesByTheLibrary(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := batches[len(batches)-1].to
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 2000 {
		data, damaged := bytes.Clone(whole), make(map[int]bool)
		for range 1 + rnd.IntN(4) {
			at, n := rnd.IntN(end), 1
			if rnd.IntN(3) == 0 {
				n = 1 + rnd.IntN(5000)
			}
			n = min(n, len(data)-at)
			how := rnd.IntN(3)
			for i := at; i < at+n; i++ {
				switch how {
				case 0:
					data[i] = 0
				case 1:
					data[i] = byte(rnd.Uint32())
				case 2:
					data[i] ^= 1 << (i % 8)
				}
				damaged[i/logBlock] = true
			}
		}
		var read []string
		eachRecord(data, uint32(logNumber(t, path)), func(batch []byte) { read = append(read, string(batch)) })
		for _, b := range batches {
			if at := slices.Index(read, b.data); at >= 0 {
				read = slices.Delete(read, at, at+1)
			} else if !touches(damaged, b.from, b.to) {
				t.Fatalf("seed %d, round %d: the batch at %d to %d was not read, but only blocks %v are damaged", seed, round, b.from, b.to, damaged)
			}
		}
		if len(read) > 0 {
			t.Fatalf("seed %d, round %d: %d batches were read that were never written; the first has %d bytes", seed, round, len(read), len(read[0]))
		}
	}
}

func touches(blocks map[int]bool, from, to int) bool {
	for block := from / logBlock; block <= (to-1)/logBlock; block++ {
		if blocks[block] {
			return true
		}
	}
	return false
}

// as converts a number to the type of another value, which Pebble does not export.
func as[T ~uint64](n uint64, _ T) T { return T(n) }

// TestSalvageTakesNoManifestForALog: both files are series of records, and a manifest's
// description of keys can look like a batch.
func TestSalvageTakesNoManifestForALog(t *testing.T) {
	path := logOfBatches(t)
	var manifest bytes.Buffer
	w := record.NewWriter(&manifest)
	for _, b := range batchesByTheLibrary(t, path) {
		if _, err := w.WriteRecord([]byte(b.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, manifest.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	l := writeAheadLog{name: filepath.Base(path), report: new(fsck.Report)}
	if err := l.read(path); err != nil || len(l.versions)+len(l.deletes) > 0 {
		t.Errorf("%d keys and %d ranges were read from a manifest (%v)", len(l.versions), len(l.deletes), err)
	}
}

// TestSalvageReadsABatchAsFarAsItGoes shows that truncated batches are read as far as
// possible. Pebble indexes past the end of some of them.
func TestSalvageReadsABatchAsFarAsItGoes(t *testing.T) {
	batches := slices.DeleteFunc(batchesByTheLibrary(t, logOfBatches(t)), func(b loggedBatch) bool {
		header, _ := batchrepr.ReadHeader([]byte(b.data))
		return header.Count < 2 // such as those of a new store's creation
	})
	whole := []byte(slices.MinFunc(batches, func(a, b loggedBatch) int { return len(a.data) - len(b.data) }).data)
	keys := 0
	for end := range len(whole) {
		l := writeAheadLog{report: new(fsck.Report)}
		err := l.batch(bytes.Clone(whole[:end]))
		if len(l.versions) < keys {
			t.Fatalf("%d bytes: %d keys, but %d from fewer bytes (%v)", end, len(l.versions), keys, err)
		}
		keys = len(l.versions)
		if err == nil && end > 12 && keys == 0 {
			t.Fatalf("%d bytes: no key and no error", end)
		}
	}
	if keys == 0 {
		t.Errorf("no key was read from %x", whole)
	}
}
