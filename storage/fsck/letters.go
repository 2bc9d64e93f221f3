package fsck

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// letters checks the message, the recipients and the id of every dead letter.
func (c *checker) letters() error {
	c.letterCount = make(map[messaging.DeadLetterKind]uint64)
	return tables.ScanTable(c.reader, schema.TableLetter, func(key, value []byte) (bool, error) {
		k, err := schema.ParseLetterKey(key)
		if err != nil {
			c.report.Add("table g (dead letters)", "has a malformed key")
			return true, nil //nolint:nilerr // it is in the report
		}
		c.report.DeadLetters++
		c.letterCount[k.Kind]++
		l, err := schema.DecodeLetter(value)
		if err != nil {
			c.report.Add(letterName(k), "cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		c.letter(k, &l)
		return true, nil
	})
}

func letterName(k schema.LetterKey) string {
	return fmt.Sprintf("%s dead letter of message %d", k.Kind, k.Sequence)
}

func (c *checker) letter(k schema.LetterKey, l *schema.Letter) {
	if schema.ReasonHash(l.Reason) != k.Reason {
		c.report.Add(letterName(k), "has a key that does not match its reason")
	}
	n := uint32(0)
	err := c.reader.LetterRecipients(k, "", func(messaging.UserID, schema.LetterRecipient) bool { n++; return true })
	if err != nil {
		c.report.Add(letterName(k), "has recipients that cannot be read: %v", err)
	} else if n != l.Recipients || n == 0 {
		c.report.Add(letterName(k), "has a wrong number of recipients: %d found, %d counted", n, l.Recipients)
	}
	if _, ok, err := c.reader.LetterMessage(k.Message()); err != nil {
		c.report.Add(letterName(k), "has a message that cannot be read: %v", err)
	} else if !ok {
		c.report.Add(letterName(k), "has no message")
	}
	if named, ok, err := c.reader.LetterByID(schema.LetterID{Kind: k.Kind, Message: l.ID}); err != nil || !ok || named != k {
		c.report.Add(letterName(k), "is not found by its id")
	}
}

// letterRecipients checks that every recipient has a dead letter, and that no
// undeliverable message is also in its queue.
func (c *checker) letterRecipients() error {
	var last, lastFound schema.LetterKey
	priority, known := messaging.Priority(0), false
	return tables.ScanTable(c.reader, schema.TableLetterRecipient, func(key, _ []byte) (bool, error) {
		k, user, err := schema.ParseRecipientKey(key)
		if err != nil {
			c.report.Add("table r (recipients of dead letters)", "has a malformed key")
			return true, nil //nolint:nilerr // it is in the report
		}
		if k != last {
			last, known = k, false
			_, ok, err := c.reader.Letter(k)
			if err == nil && !ok {
				c.report.Add(letterName(k), "is missing, but its recipients exist")
			}
			if m, ok, err := c.reader.LetterMessage(k.Message()); err == nil && ok {
				priority, known, lastFound = m.Priority, true, k
			}
		}
		if k.Kind != messaging.Undeliverable || !known || lastFound != k {
			return true, nil
		}
		queued, err := tables.HasEntry(c.reader, user, priority, k.Sequence)
		if queued {
			c.report.Add(fmt.Sprintf("message %d of user %s", k.Sequence, user), "is both in the queue and a dead letter")
		}
		return true, err
	})
}

// letterMessages checks that every message has a dead letter.
func (c *checker) letterMessages() error {
	return tables.ScanTable(c.reader, schema.TableLetterMessage, func(key, value []byte) (bool, error) {
		k, err := schema.ParseLetterMessageKey(key)
		if err != nil {
			c.report.Add("table o (messages of dead letters)", "has a malformed key")
			return true, nil //nolint:nilerr // it is in the report
		}
		if _, err := schema.DecodeLetterMessage(k.Sequence, value); err != nil {
			c.report.Add(fmt.Sprintf("message %d of dead letters", k.Sequence), "cannot be read")
		}
		letters, err := c.reader.LettersOf(k)
		if err == nil && len(letters) == 0 {
			c.report.Add(fmt.Sprintf("message %d of dead letters", k.Sequence), "has no dead letter")
		}
		return true, err
	})
}

// letterIDs checks that every id belongs to a dead letter with that id.
func (c *checker) letterIDs() error {
	return tables.ScanTable(c.reader, schema.TableLetterID, func(key, value []byte) (bool, error) {
		id, err := schema.ParseLetterIDKey(key)
		if err != nil {
			c.report.Add("table i (ids of dead letters)", "has a malformed key")
			return true, nil //nolint:nilerr // it is in the report
		}
		k, err := schema.DecodeLetterID(id, value)
		if err != nil {
			c.report.Add("dead letter "+id.String(), "cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		if l, ok, err := c.reader.Letter(k); err == nil && (!ok || l.ID != id.Message) {
			c.report.Add("dead letter "+id.String(), "is missing, but its id exists")
		}
		return true, nil
	})
}

// letterCounts checks the counts of dead letters.
func (c *checker) letterCounts() error {
	for _, kind := range schema.LetterKinds() {
		n, err := c.reader.LetterCount(kind)
		if err != nil {
			c.report.Add("table n (counts of dead letters)", "cannot be read: %v", err)
		} else if n != c.letterCount[kind] {
			c.report.Add("table n (counts of dead letters)", "has a count of %d for %s dead letters; found: %d", n, kind, c.letterCount[kind])
		}
	}
	return c.keys(schema.TableLetterCount, "n (counts of dead letters)", func(key []byte) bool {
		_, known := schema.KindOf(key[len(key)-1])
		return len(key) == 2 && known
	})
}

// keys checks that a table has only known keys.
func (c *checker) keys(table byte, name string, known func(key []byte) bool) error {
	return tables.ScanTable(c.reader, table, func(key, _ []byte) (bool, error) {
		if !known(key) {
			c.report.Add("table "+name, "has a malformed key")
		}
		return true, nil
	})
}

// position checks that the drain's position is in the log, and the count of trimmed
// sequences from there on.
func (c *checker) position() error {
	p, err := c.readPosition()
	if err == nil && p.Sequence > c.meta.Last+1 {
		c.report.Add("table p (drain position)", "says that the drain is at %d, after the end of the log at %d", p.Sequence, c.meta.Last)
	}
	c.trimmedCount(p, err)
	return errors.Join(err, c.keys(schema.TablePosition, "p (drain position)", func(key []byte) bool { return len(key) == 1 }))
}

// trimmedCount compares the count of trimmed sequences from the drain's position on with
// the log, if both can be read.
func (c *checker) trimmedCount(p messaging.Position, err error) {
	if err != nil || c.meta.Trimmed == schema.TrimmedUnknown || len(c.Damaged) > 0 {
		return
	}
	from := max(1, p.Sequence) // 0 is no position: the log begins at 1
	if n := c.trimmed + max(from, c.meta.FirstSequence) - from; n != c.meta.Trimmed {
		c.report.Add("table m (meta)", "has a count of %d for messages trimmed after the drain's position; found: %d", c.meta.Trimmed, n)
	}
}

// jobs checks that every job can be decoded.
func (c *checker) jobs() error {
	return tables.ScanTable(c.reader, schema.TableJob, func(key, value []byte) (bool, error) {
		if id, err := schema.ParseJobKey(key); err != nil {
			c.report.Add("table j (jobs)", "has a malformed key")
		} else if _, err := schema.DecodeJob(value); err != nil {
			c.report.Add("job "+id, "cannot be read")
		}
		return true, nil
	})
}
