package fsck

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// checker compares the tables of a store with each other. It only reads.
type checker struct {
	Records

	reader   tables.Reader
	codec    schema.Codec
	report   *Report
	progress func(done, total uint64) // may be nil
	// old is true if dead letters, jobs and the drain's position are in the control file.
	old bool
	// readPosition reads the drain's position of either format.
	readPosition func() (messaging.Position, error)
	// drained is the sequence of the drain's position. trimmed is how many sequences from
	// there on are in lost.
	drained, trimmed uint64
	// cleared is the entries that a clear has marked but not removed yet. They and their
	// timers count as removed.
	cleared schema.Cleared
	// letterCount counts dead letters by kind.
	letterCount map[messaging.DeadLetterKind]uint64
}

func newChecker(reader tables.Reader, codec schema.Codec, r *Report) *checker {
	return &checker{reader: reader, codec: codec, report: r, readPosition: reader.Position}
}

// Check compares the tables of an open store with each other. There must be no concurrent
// writes.
func Check(reader tables.Reader, codec schema.Codec) Report {
	report := Report{Problems: []Problem{}}
	newChecker(reader, codec, &report).all()
	return report
}

// all runs every check. A table that cannot be read is a problem and does not stop the
// other checks.
func (c *checker) all() {
	c.run([]tableCheck{
		{"m (meta)", c.readMeta},
		{"l (records)", c.records},
		{"b (receivers)", c.receivers},
		{"c (clears)", c.clears},
		{"q (queues)", func() error { return c.entries(schema.Queued) }},
		{"w (delayed)", func() error { return c.entries(schema.Delayed) }},
		{"u (counts)", c.counts},
		{"d (due times)", func() error { return c.timers(schema.Due) }},
		{"e (expiry times)", func() error { return c.timers(schema.Expiry) }},
		{"k (idempotency keys)", c.idempotency},
		{"x (expiry of idempotency keys)", c.idempotencyExpiries},
		{"f (fan-outs)", c.fanouts},
		{"t (times)", c.times},
	})
	if !c.old { // format 1 has these in the control file
		c.allLetters()
	}
}

// allLetters runs the checks of dead letters, jobs and the drain's position.
func (c *checker) allLetters() {
	c.run([]tableCheck{
		{"g (dead letters)", c.letters},
		{"r (recipients of dead letters)", c.letterRecipients},
		{"o (messages of dead letters)", c.letterMessages},
		{"i (ids of dead letters)", c.letterIDs},
		{"n (counts of dead letters)", c.letterCounts},
		{"p (drain position)", c.position},
		{"j (jobs)", c.jobs},
	})
}

// tableCheck checks one table.
type tableCheck struct {
	table string
	run   func() error
}

func (c *checker) run(checks []tableCheck) {
	for _, check := range checks {
		if err := check.run(); err != nil {
			c.report.Add("table "+check.table, "cannot be read: %v", err)
		}
	}
}

func (c *checker) readMeta() (err error) {
	c.meta, err = tables.ReadMeta(c.reader)
	c.report.First, c.report.Last = c.meta.FirstSequence, c.meta.Last
	if p, err := c.readPosition(); err == nil { // position reports the error
		c.drained = p.Sequence
	}
	return err
}

// idempotencyExpiries checks that the key of every expiry exists.
func (c *checker) idempotencyExpiries() error {
	return tables.ScanTable(c.reader, schema.TableIdempotencyExpiry, func(key, _ []byte) (bool, error) {
		end, err := schema.ParseIdempotencyExpiryKey(key)
		if err != nil {
			c.report.Add("table x (expiry of idempotency keys)", "has a malformed key")
			return true, nil //nolint:nilerr // it is in the report
		}
		if _, ok, err := c.reader.IdempotencyRecord(end.Scope, end.Key); err == nil && !ok {
			c.report.Add("an idempotency key", "is missing, but its expiry exists")
		}
		return true, nil
	})
}

// idempotency checks that every idempotency key has an expiry.
func (c *checker) idempotency() error {
	return tables.ScanTable(c.reader, schema.TableIdempotency, func(key, value []byte) (bool, error) {
		o, err := schema.DecodeIdempotencyRecord(value)
		if err != nil || len(key) < 1+16+1 {
			c.report.Add("an idempotency key", "cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		end := schema.IdempotencyExpiryKey(o.Expires, [16]byte(key[1:17]), string(key[17:]))
		if err := tables.Get(c.reader, end, func([]byte) error { return nil }); errors.Is(err, layout.ErrNotFound) {
			c.report.Add("an idempotency key", "has no expiry")
		}
		return true, nil
	})
}

// clears reads the marks of clears. The sequence of a mark must have been assigned.
func (c *checker) clears() (err error) {
	c.cleared, err = tables.Cleared(c.reader)
	for user, upTo := range c.cleared {
		if upTo > c.meta.Last {
			c.report.Add("clear of user "+string(user), "goes up to %d, but the last message is %d", upTo, c.meta.Last)
		}
	}
	return err
}

// fanouts checks that the broadcast of every unfinished fan-out exists.
func (c *checker) fanouts() error {
	jobs, err := c.reader.Fanouts()
	for _, job := range jobs {
		if !c.HasMessage(job.Sequence) {
			c.report.Add(fmt.Sprintf("fan-out of %d", job.Sequence), "has no broadcast")
		}
	}
	return err
}

// times checks that times and sequences ascend together, within the log.
func (c *checker) times() error {
	last := uint64(0)
	return tables.ScanTable(c.reader, schema.TableTime, func(key, value []byte) (bool, error) {
		if len(key) != 9 || len(value) != 8 {
			c.report.Add("table t (times)", "has an entry that cannot be read")
			return true, nil
		}
		seq := uint64(0)
		for _, b := range value {
			seq = seq<<8 | uint64(b)
		}
		if seq < last || seq > c.meta.Last {
			c.report.Add("table t (times)", "points at %d after %d", seq, last)
		}
		last = seq
		return true, nil
	})
}
