package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
)

// Codec is what a check and a repair have to know of records, whose form is the
// log's: package wal has it.
type Codec struct {
	// Inspect reads a record, or says that it is damaged.
	Inspect func(record []byte) (RecordInfo, error)
	// Lost makes a record that stands in the place of a lost one.
	Lost func(at time.Time) []byte
	// Narrow gives a broadcast's record another number of recipients.
	Narrow func(record []byte, recipients uint32) ([]byte, error)
}

// RecordInfo is what other tables must agree with.
type RecordInfo struct {
	ID         messaging.MessageID
	CreatedAt  time.Time
	Recipients uint32 // 0 for a single message
	Lost       bool
	Trimmed    bool // early, on a full disk: only a stub is left
}

// Problem is one thing that is wrong with a store.
type Problem struct {
	// Where names the file, the record or the entry.
	Where string `json:"where"`
	// What says what is wrong with it.
	What string `json:"what"`
}

// Report is what a check found.
type Report struct {
	// First and Last are the sequences of the records there are.
	First uint64 `json:"first_sequence"`
	Last  uint64 `json:"last_sequence"`
	// Records, Broadcasts, Lost, Trimmed: records, those of them that are
	// broadcasts, those that an earlier repair put in the place of lost ones, and
	// those that were trimmed early.
	Records    uint64 `json:"records"`
	Broadcasts uint64 `json:"broadcasts"`
	Lost       uint64 `json:"lost_records"`
	Trimmed    uint64 `json:"trimmed_records"`
	// Entries and Users: what stands in queues, and in how many.
	Entries     uint64 `json:"queue_entries"`
	Users       uint64 `json:"queues"`
	DeadLetters uint64 `json:"dead_letters"`
	// Problems are the first of those that were found, Found how many there were.
	Problems []Problem `json:"problems"`
	Found    uint64    `json:"problems_found"`
}

// maxProblems bounds how many problems a report tells one by one.
const maxProblems = 1000

func (r *Report) add(where, what string, args ...any) {
	r.Found++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(what, args...)})
	}
}

// checker compares the tables of an open store with each other. It only reads.
type checker struct {
	store    *Store
	codec    Codec
	report   *Report
	progress func(done, total uint64) // may be nil
	meta     Meta
	// damaged are the sequences whose record is missing or cannot be read, lost
	// those in whose place an earlier repair put one.
	damaged, lost spans
	// broadcasts are those of the log, broken those of them whose receivers are not
	// all there.
	broadcasts idSet
	broken     []brokenBroadcast
}

func newChecker(s *Store, codec Codec, r *Report) *checker {
	return &checker{store: s, codec: codec, report: r}
}

// all runs every check. What cannot be read is a problem, and the next check
// goes on.
func (c *checker) all() {
	for _, check := range []struct {
		table string
		run   func() error
	}{
		{"m (meta)", c.readMeta},
		{"l (records)", c.records},
		{"b (receivers)", c.receivers},
		{"q (queues)", func() error { return c.entries(Queued) }},
		{"w (due later)", func() error { return c.entries(Delayed) }},
		{"u (counts)", c.counts},
		{"d (times due)", func() error { return c.timers(Due) }},
		{"e (times of expiry)", func() error { return c.timers(Expiry) }},
		{"k (idempotency keys)", c.once},
		{"x (ends of idempotency keys)", c.onceEnds},
		{"f (fan-outs)", c.fanouts},
		{"t (times)", c.times},
	} {
		if err := check.run(); err != nil {
			c.report.add("table "+check.table, "cannot be read: %v", err)
		}
	}
}

func (c *checker) readMeta() (err error) {
	c.meta, err = c.store.readMeta()
	c.report.First, c.report.Last = c.meta.Floor, c.meta.Last
	return err
}

// records wants every sequence from the floor to the last one, each with a record
// that can be read. What stands before the floor is not looked at: retention moves
// the floor first, and a crash leaves the records to its next run.
func (c *checker) records() error {
	next := c.meta.Floor
	err := c.store.Records(next, ^uint64(0), func(seq uint64, raw []byte) (bool, error) {
		c.missing(next, seq)
		next = seq + 1
		c.record(seq, raw)
		if c.progress != nil && seq%4096 == 0 {
			c.progress(seq-c.meta.Floor, c.meta.Last+1-c.meta.Floor)
		}
		return true, nil
	})
	if err != nil {
		c.damaged.add(next, c.meta.Last+1)
		return err
	}
	c.missing(next, c.meta.Last+1)
	if next > c.meta.Last+1 {
		c.report.add("table m (meta)", "says that %d is the last record, and %d is there", c.meta.Last, next-1)
	}
	return nil
}

// hasMessage says whether there is a message of a sequence.
func (c *checker) hasMessage(seq uint64) bool {
	return seq >= c.meta.Floor && seq <= c.meta.Last && !c.damaged.has(seq) && !c.lost.has(seq)
}

func (c *checker) missing(from, to uint64) {
	if from >= to {
		return
	}
	c.damaged.add(from, to)
	if to-from == 1 {
		c.report.add(fmt.Sprintf("record %d", from), "is missing")
	} else {
		c.report.add(fmt.Sprintf("records %d to %d", from, to-1), "are missing")
	}
}

func (c *checker) record(seq uint64, raw []byte) {
	info, err := c.codec.Inspect(raw)
	if err != nil {
		c.damaged.add(seq, seq+1)
		c.report.add(fmt.Sprintf("record %d", seq), "cannot be read: %v", err)
		return
	}
	c.report.Records++
	switch {
	case info.Lost:
		c.report.Lost++
		c.lost.add(seq, seq+1)
	case info.Trimmed:
		c.report.Trimmed++
		c.lost.add(seq, seq+1) // as far as entries are concerned
	case info.Recipients > 0:
		c.report.Broadcasts++
		c.broadcasts.add(info.ID)
		c.broadcast(seq, info)
	}
}

// onceEnds wants the key of each note of when one may go.
func (c *checker) onceEnds() error {
	return c.store.scan([]byte{tableOnceEnd}, []byte{tableOnceEnd + 1}, func(key, _ []byte) (bool, error) {
		end, err := parseOnceEndKey(key)
		if err != nil {
			c.report.add("table x (ends of idempotency keys)", "has a key that nothing has written")
			return true, nil //nolint:nilerr // it is in the report
		}
		if _, ok, err := c.store.Once(end.Scope, end.Key); err == nil && !ok {
			c.report.add("an idempotency key", "is missing, and when it may go is noted")
		}
		return true, nil
	})
}

// once wants a note of when it may go for each idempotency key.
func (c *checker) once() error {
	return c.store.scan([]byte{tableOnce}, []byte{tableOnce + 1}, func(key, value []byte) (bool, error) {
		o, err := decodeOnce(value)
		if err != nil || len(key) < 1+16+1 {
			c.report.add("an idempotency key", "cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		end := onceEndKey(o.Expires, [16]byte(key[1:17]), string(key[17:]))
		if err := c.store.get(end, func([]byte) error { return nil }); errors.Is(err, ErrNotFound) {
			c.report.add("an idempotency key", "would never be forgotten")
		}
		return true, nil
	})
}

// fanouts wants the broadcast of each fan-out that is not finished.
func (c *checker) fanouts() error {
	jobs, err := c.store.Fanouts()
	for _, job := range jobs {
		if !c.hasMessage(job.Sequence) {
			c.report.add(fmt.Sprintf("fan-out of %d", job.Sequence), "has no broadcast")
		}
	}
	return err
}

// times wants times and sequences to ascend together, within the log.
func (c *checker) times() error {
	last := uint64(0)
	return c.store.scan([]byte{tableTime}, []byte{tableTime + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 9 || len(value) != 8 {
			c.report.add("table t (times)", "has an entry that cannot be read")
			return true, nil
		}
		seq := uint64(0)
		for _, b := range value {
			seq = seq<<8 | uint64(b)
		}
		if seq < last || seq > c.meta.Last {
			c.report.add("table t (times)", "points at %d behind %d", seq, last)
		}
		last = seq
		return true, nil
	})
}

// spans is a set of sequences that were added in ascending order, as ranges.
type spans []struct{ from, to uint64 }

func (s *spans) add(from, to uint64) {
	if n := len(*s); n > 0 && (*s)[n-1].to == from {
		(*s)[n-1].to = to
		return
	}
	*s = append(*s, struct{ from, to uint64 }{from, to})
}

func (s *spans) has(seq uint64) bool {
	_, found := slices.BinarySearchFunc(*s, seq, func(e struct{ from, to uint64 }, seq uint64) int {
		switch {
		case e.to <= seq:
			return -1
		case e.from > seq:
			return 1
		}
		return 0
	})
	return found
}

// userOf gives the user of a key of tables q, w and u, and what is behind it.
func userOf(key []byte) (user, rest []byte, ok bool) {
	if len(key) < 2 || len(key) < 2+int(key[1]) {
		return nil, nil, false
	}
	end := 2 + int(key[1])
	return bytes.Clone(key[2:end]), key[end:], true
}
