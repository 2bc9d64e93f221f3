package wal

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// recordOf returns the record of a sequence in these tests. It differs from all others.
func recordOf(seq uint64, size int) []byte {
	return bytes.Repeat([]byte{byte(seq), byte(seq >> 8), byte(seq >> 16)}, size/3+1)[:size]
}

// Whatever was added and evicted, a sequence returns its own record or none.
func TestCacheNeverMixesRecords(t *testing.T) {
	for _, size := range []int{1, 64, 1 << 10, 1 << 16, mapped} {
		c, random := newCache(size), rand.New(rand.NewPCG(1, uint64(size)))
		sizes, hits := make(map[uint64]int), 0
		for range 50_000 {
			seq := random.Uint64N(3000)
			switch random.IntN(20) {
			case 0:
				c.drop(seq)
				if _, ok := c.get(seq); ok {
					t.Fatalf("%d bytes: record %d was dropped and is still cached", size, seq)
				}
				delete(sizes, seq)
			default:
				if _, there := c.get(seq); !there {
					sizes[seq] = 1 + random.IntN(900)
					c.put(seq, recordOf(seq, sizes[seq]))
				}
			}
			seq = random.Uint64N(3000)
			raw, ok := c.get(seq)
			if ok && !bytes.Equal(raw, recordOf(seq, sizes[seq])) {
				t.Fatalf("%d bytes: record %d has another record's bytes", size, seq)
			}
			if ok {
				hits++
			}
		}
		if size >= 1<<16 && hits < 1000 {
			t.Errorf("%d bytes: %d of 50,000 were found", size, hits)
		}
	}
}

// The ring holds the records added last, as many as fit.
func TestCacheKeepsTheNewest(t *testing.T) {
	c := newCache(1 << 16)
	for seq := uint64(1); seq <= 10_000; seq++ {
		c.put(seq, recordOf(seq, 300))
		if _, ok := c.get(seq); !ok {
			t.Fatalf("record %d is not cached right after it was added", seq)
		}
	}
	for seq := uint64(10_000 - 200); seq <= 10_000; seq++ {
		if _, ok := c.get(seq); !ok {
			t.Errorf("record %d was evicted, although it and all later ones fit", seq)
		}
	}
	if _, ok := c.get(10_000 - 300); ok {
		t.Error("more is cached than fits")
	}
}

// A record that was read before a trim is not added after it.
func TestCacheSkipsARecordTrimmedDuringItsRead(t *testing.T) {
	c := newCache(1 << 16)
	_, since := c.miss(7)
	c.drop(7)
	c.fill(7, recordOf(7, 10), since)
	if _, ok := c.get(7); ok {
		t.Error("a trimmed record is cached")
	}
	_, since = c.miss(7)
	c.fill(7, recordOf(7, 10), since)
	if _, ok := c.get(7); !ok {
		t.Error("a record read after the trim is not cached")
	}
}

// The second miss in a chunk requests the whole chunk.
func TestCacheRequestsNeighbours(t *testing.T) {
	c := newCache(1 << 16)
	for i, step := range []struct {
		seq   uint64
		again bool
	}{{64, false}, {70, true}, {200, false}, {95, true}, {96, false}} {
		if again, _ := c.miss(step.seq); again != step.again {
			t.Errorf("step %d: a miss of %d returns %t", i, step.seq, again)
		}
	}
}

func TestCacheServesManyAtOnce(t *testing.T) {
	c := newCache(1 << 14)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(w)))
			for range 20_000 {
				seq := random.Uint64N(200)
				if raw, ok := c.get(seq); ok && !bytes.Equal(raw, recordOf(seq, 100)) {
					t.Errorf("record %d has another record's bytes", seq)
					return
				}
				c.put(seq, recordOf(seq, 100))
			}
		})
	}
	all.Wait()
}
