package wal

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// cache keeps records in memory: the records appended last, and the neighbours of records
// that were read. A message is often taken soon after it was sent, and the messages at the
// heads of many queues are close together in the log.
//
// Records do not change once they have a sequence, except by a trim, which drops the
// record from the cache. A ring of bytes holds the records, oldest evicted first, and a
// table finds them by sequence:
//
//	ring:    … [seq:8 len:4 record] [seq:8 len:4 record] …
//	offsets: at seq modulo its length, the entry's offset in all bytes ever written, plus one
//
// Invariants, under mu:
//
//  1. The bytes written between head-len(ring) and head are in the ring, at their
//     offset modulo its length. Older bytes are overwritten and are not read.
//  2. An entry does not cross the ring's end.
//
// The ring is mapped outside the heap. On the heap it would raise the garbage collector's
// target by a multiple of its size. Its pages use memory only once they are written.
type cache struct {
	mu      sync.RWMutex
	ring    []byte
	offsets []uint64
	head    uint64
	// dropped counts the trims. A record that was read before a trim is not added after
	// it.
	dropped uint64
	// missed holds the chunks in which a record was looked up and not found, at their
	// number modulo its length.
	missed []uint64
}

const (
	cacheHeader = 12
	// cacheChunk is how many records are read at once when a second record of the same
	// chunk is missed.
	cacheChunk = 32
	// ordinaryRecord is the record size that the table is made for. With smaller records
	// the ring holds more than the table can find.
	ordinaryRecord = 256
	// mapped is the ring size from which it is not on the heap.
	mapped = 4 << 20
)

// newCache returns a cache of size bytes. If the memory cannot be mapped, the cache stays
// empty.
func newCache(size int) *cache {
	c := &cache{
		offsets: make([]uint64, max(1, size/ordinaryRecord)),
		missed:  make([]uint64, max(1, size/ordinaryRecord/cacheChunk)),
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
	runtime.AddCleanup(c, func(ring []byte) { syscall.Munmap(ring) }, ring) //nolint:errcheck,gosec // nothing can be done about a failure
	return c
}

// get returns a copy of a record, if it is cached.
func (c *cache) get(seq uint64) ([]byte, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	raw := c.findLocked(seq)
	return slices.Clone(raw), raw != nil
}

// collect sets raw of each cached record to a copy, all in one allocation, and reports
// whether every record was cached.
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
	offset := c.offsets[seq%uint64(len(c.offsets))]
	if offset == 0 || offset-1+uint64(len(c.ring)) < c.head {
		return nil
	}
	entry := c.ring[(offset-1)%uint64(len(c.ring)):]
	if binary.BigEndian.Uint64(entry) != seq {
		return nil // another sequence has this slot
	}
	return entry[cacheHeader:][:binary.BigEndian.Uint32(entry[8:])]
}

// put adds a record. A record larger than a sixteenth of the ring is not cached.
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
	c.offsets[seq%uint64(len(c.offsets))] = c.head + 1
	c.head += need
}

// drop removes a record that is about to change on disk.
func (c *cache) drop(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
	if c.findLocked(seq) != nil {
		c.offsets[seq%uint64(len(c.offsets))] = 0
	}
}

// miss records that a record has to be read from the disk. again reports whether another
// record of its chunk was missed before; then the whole chunk is worth reading. since is
// the argument for [cache.fill].
func (c *cache) miss(seq uint64) (again bool, since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chunk := seq/cacheChunk + 1
	last := &c.missed[chunk%uint64(len(c.missed))]
	again = *last == chunk
	*last = chunk
	return again, c.dropped
}

// fill adds a record that was read from the disk. It does nothing if a record was trimmed
// since the miss, because it may be this one.
func (c *cache) fill(seq uint64, raw []byte, since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == since {
		c.putLocked(seq, raw)
	}
}
