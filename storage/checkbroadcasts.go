package storage

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/stayafrica/messaging"
)

// brokenBroadcast is one whose receivers are not all there.
type brokenBroadcast struct {
	id         messaging.MessageID
	sequence   uint64
	recipients uint32
}

// broadcast wants all chunks of a broadcast's receivers, each whole. They are read
// when the record is, so that nothing has to be remembered of a whole broadcast.
func (c *checker) broadcast(seq uint64, info RecordInfo) {
	where := fmt.Sprintf("record %d", seq)
	chunks, whole := uint32(0), true
	wrong := func(what string, args ...any) {
		whole = false
		c.report.add(where, what, args...)
	}
	prefix := idKey(tableReceivers, info.ID)
	err := c.store.scan(prefix, prefixEnd(prefix), func(key, value []byte) (bool, error) {
		_, chunk, ok := parseReceiversKey(key)
		switch {
		case !ok: // told by receivers
		case chunk != chunks || chunk >= chunksOf(info.Recipients):
			wrong("has chunk %d of its receivers in the place of %d", chunk, chunks)
		case !wholeChunk(value, chunk, info.Recipients):
			wrong("has receivers that cannot be read (chunk %d)", chunk)
		}
		chunks++
		return true, nil
	})
	switch {
	case err != nil:
		wrong("is a broadcast whose receivers cannot be read: %v", err)
	case whole && chunks < chunksOf(info.Recipients):
		wrong("is a broadcast that lacks some of its receivers")
	}
	if !whole {
		c.broken = append(c.broken, brokenBroadcast{info.ID, seq, info.Recipients})
	}
}

// receivers wants none of what is no broadcast and not on its way to become one.
func (c *checker) receivers() error {
	staged, err := c.store.Stages()
	if err != nil {
		return err
	}
	var last messaging.MessageID
	return c.store.scan([]byte{tableReceivers}, []byte{tableReceivers + 1}, func(key, _ []byte) (bool, error) {
		id, _, ok := parseReceiversKey(key)
		switch {
		case !ok:
			c.report.add("table b (receivers)", "has a key that nothing has written")
		case id == last:
		case !c.broadcasts.has(id) && !slices.Contains(staged, id):
			c.report.add("receivers of broadcast "+id.String(), "are there, and the broadcast is not")
		}
		last = id
		return true, nil
	})
}

func chunksOf(recipients uint32) uint32 {
	return (recipients + messaging.ReceiversPerChunk - 1) / messaging.ReceiversPerChunk
}

func wholeChunk(value []byte, chunk, recipients uint32) bool {
	list, err := messaging.DecodeReceivers(value)
	want := min(recipients-chunk*messaging.ReceiversPerChunk, messaging.ReceiversPerChunk)
	return err == nil && uint32(len(list)) == want //nolint:gosec // at most 4096
}

func parseReceiversKey(key []byte) (id messaging.MessageID, chunk uint32, ok bool) {
	if len(key) != 1+16+4 {
		return id, 0, false
	}
	return messaging.MessageID(key[1:17]), binary.BigEndian.Uint32(key[17:]), true
}

// idSet is a set of ids that takes 8 bytes for each: a store of ten million
// broadcasts must fit in memory. It keeps hashes; that two of ten million ids have
// the same is not to be expected.
type idSet struct {
	sums   []uint64
	sorted bool
}

func idSum(id messaging.MessageID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id[:]) // a hash does not fail
	return h.Sum64()
}

func (s *idSet) add(id messaging.MessageID) {
	s.sums, s.sorted = append(s.sums, idSum(id)), false
}

func (s *idSet) has(id messaging.MessageID) bool {
	if !s.sorted {
		slices.Sort(s.sums)
		s.sorted = true
	}
	_, found := slices.BinarySearch(s.sums, idSum(id))
	return found
}
