package wal

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stayafrica/messaging/storage"
)

// cold is a log of n records, none of them cached.
func cold(t *testing.T, n int) *Log {
	t.Helper()
	l := open(t)
	for i := range n {
		r := record(time.Now())
		r.Message.Body = fmt.Appendf(nil, `{"text":"%d"}`, i+1)
		if err := l.Commit(&appended{record: r}); err != nil {
			t.Fatal(err)
		}
	}
	l.cache = newCache(1 << 20)
	return l
}

func textOf(seq uint64) string { return fmt.Sprintf(`{"text":"%d"}`, seq) }

// A prefetched record is cached, unless it is read with its neighbours or does not exist.
func TestPrefetchCachesRecords(t *testing.T) {
	l := cold(t, 500)
	r := l.RecordReader()
	wanted := []uint64{5, 40, 41, 90, 130, 170, 300, 499, 1000}
	r.Prefetch(wanted)
	for _, seq := range wanted {
		_, ok := l.cache.get(seq)
		if alone := seq != 41 && seq != 1000; ok != alone {
			t.Errorf("record %d is in memory: %t", seq, ok)
		}
	}
	for _, seq := range wanted[:8] {
		got, err := r.Record(seq)
		if err != nil || string(got.Message.Body) != textOf(seq) {
			t.Errorf("record %d is %q, %v", seq, got.Message.Body, err)
		}
	}
	if _, err := r.Record(1000); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a missing record returns %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
