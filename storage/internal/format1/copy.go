package format1

import (
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

var errUpgrade = errors.New("the upgrade is not complete: nothing was removed; start again, or use the program that wrote the store")

// Copier copies the dead letters, jobs and drain position of a control file of format 1
// into the tables of a store. The tables must have none of them.
type Copier struct {
	From  Reader
	Into  tables.Reader
	Batch *tables.Batch
	// Write commits and empties the batch if it is large. If last is set, it always does.
	Write func(batch *tables.Batch, last bool)

	counts  map[messaging.DeadLetterKind]uint64
	copied  map[schema.LetterKey]uint32 // recipients
	jobs    int
	letters int
}

// Counts returns how many dead letters and jobs were read.
func (c *Copier) Counts() (letters, jobs int) { return c.letters, c.jobs }

// Copy copies everything.
func (c *Copier) Copy() error {
	c.counts, c.copied = make(map[messaging.DeadLetterKind]uint64), make(map[schema.LetterKey]uint32)
	position, err := c.From.Position()
	if err != nil {
		return err
	}
	if position.Sequence > 0 {
		c.Batch.PutPosition(position)
	}
	if err := c.From.Jobs(func(id string, j schema.JobRecord) error {
		c.Batch.PutJob(id, j)
		c.jobs++
		c.Write(c.Batch, false)
		return nil
	}); err != nil {
		return err
	}
	if err := c.From.Letters(c.letter); err != nil {
		return err
	}
	for kind, n := range c.counts {
		c.Batch.PutLetterCount(kind, n)
	}
	c.Write(c.Batch, true)
	return nil
}

// letter copies one dead letter. A recipient whose message is still in the queue is left
// out. A crash between the writes of the letter and of the queue leaves both.
func (c *Copier) letter(l *Letter, recipients map[messaging.UserID]schema.LetterRecipient) error {
	c.letters++
	if l.Kind == messaging.Undeliverable {
		for user := range recipients {
			queued, err := tables.HasEntry(c.Into, user, l.Message.Priority, l.Message.Position.Sequence)
			if err != nil {
				return err
			}
			if queued {
				delete(recipients, user)
			}
		}
	}
	if len(recipients) == 0 {
		return nil
	}
	k := schema.LetterKey{Kind: l.Kind, Sequence: l.Message.Position.Sequence, Reason: schema.ReasonHash(l.Reason)}
	letter := schema.Letter{
		ID: l.Message.ID, Named: l.Message.Receiver, Number: l.Message.Position.Receiver, StatusCode: l.StatusCode, Attempts: l.Attempts,
		FailedAt: l.FailedAt, LastFailedAt: later(l.FailedAt, l.LatestAt), Reason: l.Reason,
	}
	if c.copied[k] == 0 {
		m := l.Message.decoded()
		c.Batch.PutLetterMessage(k.Message(), &m)
		c.counts[l.Kind]++
	} else if err := c.join(k, &letter, recipients); err != nil {
		return err
	}
	c.copied[k] += uint32(len(recipients)) //nolint:gosec // at most a million
	letter.Recipients = c.copied[k]
	c.Batch.PutLetter(k, &letter)
	for user, r := range recipients {
		r.Attempts = uint32(l.Attempts) //nolint:gosec // not negative
		c.Batch.PutLetterRecipient(k, user, &r)
		c.Write(c.Batch, false)
	}
	return nil
}

// join merges a letter's recipients into a letter that was already copied. A damaged
// index can have split one letter into two.
func (c *Copier) join(k schema.LetterKey, letter *schema.Letter, recipients map[messaging.UserID]schema.LetterRecipient) error {
	c.Write(c.Batch, true)
	before, _, err := c.Into.Letter(k)
	if err != nil {
		return err
	}
	*letter = before
	for user := range recipients {
		_, ok, err := c.Into.LetterRecipient(k, user)
		if err != nil {
			return err
		}
		if ok {
			delete(recipients, user)
		}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Check checks that everything was copied.
func (c *Copier) Check() error {
	jobs, err := c.Into.Jobs()
	if err != nil {
		return err
	}
	if len(jobs) != c.jobs {
		return fmt.Errorf("%w: %d of %d jobs were copied", errUpgrade, len(jobs), c.jobs)
	}
	for k, want := range c.copied {
		n := uint32(0)
		err := c.Into.LetterRecipients(k, "", func(messaging.UserID, schema.LetterRecipient) bool { n++; return true })
		if err != nil {
			return err
		}
		l, ok, err := c.Into.Letter(k)
		if err != nil {
			return err
		}
		if !ok || n != want || l.Recipients != want {
			return fmt.Errorf("%w: %d of %d recipients of a dead letter were copied", errUpgrade, n, want)
		}
	}
	return nil
}

// Drop removes format 1's data in one transaction, which has the effect of the new file
// on a real disk.
func Drop(tx controlfile.Tx, id controlfile.Identity) error {
	for _, bucket := range controlfile.Format1Buckets() {
		var keys []string
		tx.Scan(bucket, "", func(key string, _ []byte) bool {
			keys = append(keys, key)
			return true
		})
		for _, key := range keys {
			if err := tx.Delete(bucket, key); err != nil {
				return err
			}
		}
	}
	for _, bucket := range controlfile.StateBuckets() {
		for _, key := range []string{keyPosition, "dead_refused", "dead_undeliverable"} {
			if err := tx.Delete(bucket, key); err != nil {
				return err
			}
		}
	}
	id.Format = layout.Format
	return controlfile.PutIdentity(tx, id)
}
