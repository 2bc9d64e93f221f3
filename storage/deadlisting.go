package storage

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/stayafrica/messaging"
)

// Bounds of one page of a listing, so that what matches little, or is large,
// does not hold a transaction open for long or fill the memory.
const (
	deadLetterScan  = 10_000
	deadLetterBytes = 8 << 20
)

// ListDeadLetters gives one page of the listing, in the order of ids. A page
// ends before its limit where it has grown too large; it has at least one.
func (c *Control) ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error) {
	return c.listDead(f, func(d *deadLetterRecord) bool {
		return (f.Kind == "" || d.Kind == f.Kind) && (f.Reason == "" || d.Reason == f.Reason)
	})
}

func (c *Control) listDead(f messaging.DeadLetterFilter, wanted func(*deadLetterRecord) bool) (page messaging.DeadLetterPage, err error) {
	page.Total = c.deadTotal(f.Kind)
	from := f.After
	if from != "" {
		from += "\x00"
	}
	scanned, bytes, last := 0, 0, ""
	viewErr := c.file.View(func(tx ControlTx) error {
		tx.Scan(bucketDead, from, func(id string, sealed []byte) bool {
			full := len(page.DeadLetters) == f.Limit || (bytes+len(sealed) > deadLetterBytes && len(page.DeadLetters) > 0)
			if full || scanned == deadLetterScan {
				page.Next = last
				return false
			}
			scanned++
			last = id
			var record *deadLetterRecord
			if record, err = decodeDeadLetter(id, sealed); err != nil {
				return false
			}
			if wanted(record) {
				bytes += len(sealed)
				page.DeadLetters = append(page.DeadLetters, record.letter())
			}
			return true
		})
		return err
	})
	return page, viewErr
}

func (c *Control) deadTotal(kind messaging.DeadLetterKind) int {
	if kind != "" {
		return int(c.DeadLetters(kind)) //nolint:gosec // a count of what is on disk
	}
	return int(c.DeadLetters(messaging.Refused) + c.DeadLetters(messaging.Undeliverable)) //nolint:gosec // same
}

// FindDeadLetter gives one dead letter; ok is false where there is none.
func (c *Control) FindDeadLetter(id string) (letter messaging.DeadLetter, ok bool, err error) {
	err = c.file.View(func(tx ControlTx) error {
		record, err := getDeadLetter(tx, id)
		if record != nil {
			letter, ok = record.letter(), true
		}
		return err
	})
	return letter, ok, err
}

// DeadCopies gives the messages of a dead letter, one a recipient, behind a
// user and in the order of users, up to limit.
func (c *Control) DeadCopies(letter *messaging.DeadLetter, after messaging.UserID, limit int) (copies []messaging.DeadCopy, err error) {
	prefix := letter.ID + "/"
	from := prefix + string(after)
	viewErr := c.file.View(func(tx ControlTx) error {
		tx.Scan(bucketDeadReceivers, from, func(key string, sealed []byte) bool {
			user, ok := strings.CutPrefix(key, prefix)
			if !ok || len(copies) == limit {
				return false
			}
			if messaging.UserID(user) == after {
				return true
			}
			var value []byte
			if value, err = unseal(bucketDeadReceivers, key, sealed); err != nil || len(value) != 5 {
				err = fmt.Errorf("%w: %s: a recipient of a dead letter: %w", ErrDamaged, controlName, errSeal)
				return false
			}
			copies = append(copies, messaging.DeadCopy{Letter: letter.ID, Message: deadMessage(&letter.Message, messaging.UserID(user), value)})
			return true
		})
		return err
	})
	return copies, viewErr
}

// deadMessage gives the message of one recipient of a dead letter.
func deadMessage(m *messaging.Message, user messaging.UserID, value []byte) messaging.Message {
	if !m.Copy {
		return *m
	}
	return m.CopyTo(binary.BigEndian.Uint32(value), messaging.Receiver{User: user, Quoted: value[4] == 1})
}

// UndeliverableIn gives the sequences in [from, to) of which some receiver's
// message is an undeliverable dead letter: a redrive would put it back into its
// queue, and needs its record.
func (c *Control) UndeliverableIn(from, to uint64) (sequences map[uint64]bool, err error) {
	if c.DeadLetters(messaging.Undeliverable) == 0 {
		return nil, nil //nolint:nilnil // there are none
	}
	prefix := string(messaging.Undeliverable)
	first := binary.BigEndian.AppendUint64([]byte(prefix), from)
	sequences = make(map[uint64]bool)
	err = c.file.View(func(tx ControlTx) error {
		tx.Scan(bucketDeadGroups, string(first), func(key string, _ []byte) bool {
			rest, ok := strings.CutPrefix(key, prefix)
			if !ok || len(rest) < 8 {
				return false
			}
			seq := binary.BigEndian.Uint64([]byte(rest))
			sequences[seq] = true
			return seq < to
		})
		return nil
	})
	return sequences, err
}
