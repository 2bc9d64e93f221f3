package engine_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
)

// Fact 11: a scan of a queue begins at its head, not among tombstones of taken entries.
// Range deletes are rare: two per run of retention, however much it trims, and none per
// take.
func TestFact11ScansBeginAtTheHeadAndRangeDeletesAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, engine.Config{Retention: time.Hour})
		const n = 3000
		for i := range n {
			r.send("u", strconv.Itoa(i), messaging.Normal)
		}
		r.take("u", n-1)
		synctest.Wait()
		user, err := r.store.QueueState("u")
		if err != nil || user.Heads[messaging.Normal] != n {
			t.Errorf("the head is at %d, want %d (%v)", user.Heads[messaging.Normal], n, err)
		}
		seen := 0
		if err := r.store.Entries(storage.Queued, "u", messaging.Normal, user.Heads[messaging.Normal], n+1, func(uint64, storage.Entry) bool {
			seen++
			return true
		}); err != nil || seen != 1 {
			t.Errorf("%d entries from the head on (%v), want 1", seen, err)
		}
		if got := r.rangeDeletes(); got != 0 {
			t.Errorf("%d ranges were deleted by takes", got)
		}
		time.Sleep(2 * time.Hour)
		if trimmed, err := r.engine.Trim(t.Context()); err != nil || trimmed != n {
			t.Errorf("%d were trimmed (%v)", trimmed, err)
		}
		if got := r.rangeDeletes(); got != 2 {
			t.Errorf("%d ranges were deleted by one run of retention, want 2", got)
		}
	})
}

// rangeDeletes counts the range deletes in all write-ahead logs.
func (r *rig) rangeDeletes() (n int) {
	r.tb.Helper()
	names, err := r.fs.List("/data/messages")
	if err != nil {
		r.tb.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			n += countRangeDeletes(r.tb, r.fs, "/data/messages/"+name)
		}
	}
	return n
}

// numbered opens a log by its number, whose type is not exported by Pebble.
func numbered[N ~uint64](open func(r io.Reader, number N) *record.Reader, r io.Reader, number uint64) *record.Reader {
	return open(r, N(number))
}

// countRangeDeletes counts the range deletes in one write-ahead log.
func countRangeDeletes(tb testing.TB, fs vfs.FS, path string) (n int) {
	tb.Helper()
	f, err := fs.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	number, err := strconv.ParseUint(strings.TrimSuffix(fs.PathBase(path), ".log"), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	log := numbered(record.NewReader, f, number)
	for {
		one, err := log.Next()
		if err != nil {
			return n // the end, or data that is not synced yet
		}
		repr, err := io.ReadAll(one)
		if err != nil {
			return n
		}
		for batch := batchrepr.Read(repr); ; {
			kind, _, _, ok, err := batch.Next()
			if err != nil {
				tb.Fatal(err)
			}
			if !ok {
				break
			}
			if kind == pebble.InternalKeyKindRangeDelete {
				n++
			}
		}
	}
}
