package fsck

import (
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// Records is what a check found in the records of the log.
type Records struct {
	// Damaged is the sequences whose record is missing or unreadable.
	Damaged Spans
	// Broken is the broadcasts with missing receivers.
	Broken []Broadcast

	meta schema.Meta
	// lost is the sequences without a message: lost or trimmed records.
	lost       Spans
	broadcasts idSet
}

// Broadcast is a broadcast with missing receivers.
type Broadcast struct {
	ID         messaging.MessageID
	Sequence   uint64
	Recipients uint32
}

// HasMessage reports whether a sequence has a message.
func (r *Records) HasMessage(seq uint64) bool {
	return seq >= r.meta.FirstSequence && seq <= r.meta.Last && !r.Damaged.Has(seq) && !r.lost.Has(seq)
}

// HasBroadcast reports whether the log has a broadcast with an id.
func (r *Records) HasBroadcast(id messaging.MessageID) bool { return r.broadcasts.has(id) }

// CheckRecords checks only the records, and the receivers of broadcasts with them. A
// repair begins with it.
func CheckRecords(reader tables.Reader, codec schema.Codec, meta schema.Meta, progress func(done, total uint64)) (*Records, error) {
	c := newChecker(reader, codec, &Report{})
	c.meta, c.progress = meta, progress
	err := c.records()
	return &c.Records, err
}

// records checks that every sequence from the first to the last has a readable record. It
// does not read records before the first sequence. Retention moves the first sequence
// before it removes records, and after a crash the next run of retention removes them.
func (c *checker) records() error {
	next := c.meta.FirstSequence
	err := c.reader.Records(next, ^uint64(0), func(seq uint64, raw []byte) (bool, error) {
		c.missing(next, seq)
		next = seq + 1
		c.record(seq, raw)
		if c.progress != nil && seq%4096 == 0 {
			c.progress(seq-c.meta.FirstSequence, c.meta.Last+1-c.meta.FirstSequence)
		}
		return true, nil
	})
	if err != nil {
		c.Damaged.Add(next, c.meta.Last+1)
		return err
	}
	c.missing(next, c.meta.Last+1)
	if next > c.meta.Last+1 {
		c.report.Add("table m (meta)", "has %d as the last record, but record %d exists", c.meta.Last, next-1)
	}
	return nil
}

func (c *checker) missing(from, to uint64) {
	if from >= to {
		return
	}
	c.Damaged.Add(from, to)
	if to-from == 1 {
		c.report.Add(fmt.Sprintf("record %d", from), "is missing")
	} else {
		c.report.Add(fmt.Sprintf("records %d to %d", from, to-1), "are missing")
	}
}

func (c *checker) record(seq uint64, raw []byte) {
	info, err := c.codec.Inspect(raw)
	if err != nil {
		c.Damaged.Add(seq, seq+1)
		c.report.Add(fmt.Sprintf("record %d", seq), "cannot be read: %v", err)
		return
	}
	c.report.Records++
	switch {
	case info.Lost:
		c.report.Lost++
		c.noMessage(seq)
	case info.Trimmed:
		c.report.Trimmed++
		c.noMessage(seq)
	case info.Recipients > 0:
		c.report.Broadcasts++
		c.broadcasts.add(info.ID)
		c.broadcast(seq, info)
	}
}

// noMessage records a sequence whose record no longer has a message.
func (c *checker) noMessage(seq uint64) {
	c.lost.Add(seq, seq+1)
	if seq >= c.drained {
		c.trimmed++
	}
}

// idSet is a set of ids in 8 bytes each, so that the ids of ten million broadcasts fit in
// memory. It stores hashes. A collision among ten million ids is not expected.
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
