package wal

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// cache keeps records in memory: those that were appended last, and those around
// what was read. A message is often taken soon after it was sent, and what stands
// at the heads of many queues lies in one part of the log.
//
// Records never change once they have their sequence, so nothing has to be kept
// in step but a trim, which drops what it takes. A ring of bytes holds them, the
// oldest to enter is the first to go, and a table finds them by their sequence:
//
//	ring:   … [seq:8 len:4 record] [seq:8 len:4 record] …
//	places: at seq modulo its length, where in all that was ever written it stands, plus one
//
// Invariants, under mu:
//
//  1. What was written between head-len(ring) and head is in the ring, at its place
//     modulo the length; what is older is overwritten, and is not read.
//  2. An entry does not cross the ring's end.
//
// The ring is memory of its own: on the heap it would let as much garbage again
// gather beside it, several times over. Its pages are there once they are used.
type cache struct {
	mu     sync.RWMutex
	ring   []byte
	places []uint64
	head   uint64
	// dropped counts the trims: what was read before one is not put in after it.
	dropped uint64
	// missed has, by their numbers modulo its length, the chunks that something was
	// read of and not found.
	missed []uint64
}

const (
	cacheHeader = 12
	// cacheChunk is how many records are read at once where more than one is wanted
	// of them.
	cacheChunk = 32
	// ordinaryRecord is what the table is made for: with smaller records the ring
	// holds more than can be found.
	ordinaryRecord = 256
	// mapped is the size from which the ring is not on the heap.
	mapped = 4 << 20
)

// newCache makes a cache of so many bytes. Without the memory there is none.
func newCache(size int) *cache {
	c := &cache{
		places: make([]uint64, max(1, size/ordinaryRecord)),
		missed: make([]uint64, max(1, size/ordinaryRecord/cacheChunk)),
	}
	if size < mapped {
		c.ring = make([]byte, size)
		return c
	}
	ring, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return c // an empty ring holds nothing
	}
	c.ring = ring
	runtime.AddCleanup(c, func(ring []byte) { syscall.Munmap(ring) }, ring) //nolint:errcheck,gosec // there is nothing to do about it
	return c
}

// get gives a copy of a record, if it is there.
func (c *cache) get(seq uint64) ([]byte, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	raw := c.findLocked(seq)
	return slices.Clone(raw), raw != nil
}

// collect gives copies of those of the records that are there, in one piece of
// memory, and says whether they all are.
func (c *cache) collect(records []fetched) (all bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var room [8][]byte
	found, all := room[:0], true
	for i := range records {
		raw := c.findLocked(records[i].seq)
		records[i].raw = raw
		found = append(found, raw)
		all = all && raw != nil
	}
	copies := bytes.Join(found, nil)
	for i := range records {
		if n := len(records[i].raw); n > 0 {
			records[i].raw, copies = copies[:n:n], copies[n:]
		}
	}
	return all
}

func (c *cache) findLocked(seq uint64) []byte {
	place := c.places[seq%uint64(len(c.places))]
	if place == 0 || place-1+uint64(len(c.ring)) < c.head {
		return nil
	}
	entry := c.ring[(place-1)%uint64(len(c.ring)):]
	if binary.BigEndian.Uint64(entry) != seq {
		return nil // another has its place in the table
	}
	return entry[cacheHeader:][:binary.BigEndian.Uint32(entry[8:])]
}

// put adds a record. One that would drive out much else is left out.
func (c *cache) put(seq uint64, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(seq, raw)
}

func (c *cache) putLocked(seq uint64, raw []byte) {
	need, size := uint64(cacheHeader+len(raw)), uint64(len(c.ring))
	if need > size/16 || c.findLocked(seq) != nil {
		return
	}
	if left := size - c.head%size; left < need {
		c.head += left
	}
	entry := c.ring[c.head%size:]
	binary.BigEndian.PutUint64(entry, seq)
	binary.BigEndian.PutUint32(entry[8:], uint32(len(raw))) //nolint:gosec // less than the ring
	copy(entry[cacheHeader:], raw)
	c.places[seq%uint64(len(c.places))] = c.head + 1
	c.head += need
}

// drop takes a record out that is about to change on disk.
func (c *cache) drop(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
	if c.findLocked(seq) != nil {
		c.places[seq%uint64(len(c.places))] = 0
	}
}

// miss notes that a record has to be read from the disk. again says that another
// one near it had to be too, so that all of them are worth reading; since is for
// [cache.fill].
func (c *cache) miss(seq uint64) (again bool, since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chunk := seq/cacheChunk + 1
	last := &c.missed[chunk%uint64(len(c.missed))]
	again = *last == chunk
	*last = chunk
	return again, c.dropped
}

// fill adds a record that was read from the disk, unless something was trimmed
// since the miss: it may be that.
func (c *cache) fill(seq uint64, raw []byte, since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == since {
		c.putLocked(seq, raw)
	}
}
