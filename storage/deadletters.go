package storage

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging"
)

// A dead letter stands under its id. Copies of a broadcast that failed for one
// reason share the first one's: the group bucket finds it by sequence and
// reason, the receivers bucket holds every copy.
//
//	dead_letters           <kind>-<message id>            → JSON, checksum
//	dead_letter_groups     <kind> seq:8 hash of reason:8  → id
//	dead_letter_receivers  id / user                      → number:4 quoted:1, checksum
//	state                  dead_<kind>                    → count:8

// deadLetterRecord is a dead letter as it is stored.
type deadLetterRecord struct {
	ID         string                   `json:"id"`
	Kind       messaging.DeadLetterKind `json:"kind"`
	Reason     string                   `json:"reason"`
	StatusCode int                      `json:"status_code"`
	Attempts   int                      `json:"attempts"`
	FailedAt   time.Time                `json:"failed_at"`
	Recipients int                      `json:"recipients"`
	Message    messaging.Message        `json:"message"`
}

func (r *deadLetterRecord) letter() messaging.DeadLetter { return messaging.DeadLetter(*r) }

// deadCounts are how many dead letters there are of each kind, kept in memory
// for metrics and listings.
type deadCounts struct {
	mu     sync.Mutex
	counts map[messaging.DeadLetterKind]uint64
}

func deadCountKey(kind messaging.DeadLetterKind) string { return "dead_" + string(kind) }

func (d *deadCounts) load(file ControlFile) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts = make(map[messaging.DeadLetterKind]uint64)
	return file.View(func(tx ControlTx) error {
		for _, kind := range []messaging.DeadLetterKind{messaging.Refused, messaging.Undeliverable} {
			n, err := deadCount(tx, kind)
			if err != nil {
				return err
			}
			d.counts[kind] = n
		}
		return nil
	})
}

func deadCount(tx ControlTx, kind messaging.DeadLetterKind) (uint64, error) {
	value, err := getState(tx, deadCountKey(kind))
	if err != nil || len(value) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

// DeadLetters gives how many dead letters there are of a kind.
func (c *Control) DeadLetters(kind messaging.DeadLetterKind) uint64 {
	c.dead.mu.Lock()
	defer c.dead.mu.Unlock()
	return c.dead.counts[kind]
}

// changeDead runs a durable transaction on dead letters. It keeps their number.
func (c *Control) changeDead(doing string, change func(tx *deadTx) error) error {
	err := c.update(doing, func(tx ControlTx) error {
		dead := &deadTx{ControlTx: tx, more: make(map[messaging.DeadLetterKind]int64)}
		if err := change(dead); err != nil {
			return err
		}
		return dead.count()
	})
	if err != nil {
		return err
	}
	return c.dead.load(c.file)
}

// deadTx is a transaction on dead letters. more is by how many there will be
// more of each kind.
type deadTx struct {
	ControlTx

	more map[messaging.DeadLetterKind]int64
}

func (tx *deadTx) count() error {
	for kind, n := range tx.more {
		before, err := deadCount(tx, kind)
		if err != nil {
			return err
		}
		after := uint64(max(0, int64(before)+n)) //nolint:gosec // counts of what is on disk
		if err := putState(tx, deadCountKey(kind), binary.BigEndian.AppendUint64(nil, after)); err != nil {
			return err
		}
	}
	return nil
}

// AddDeadLetters makes dead letters durable. One that is there already, from a
// time before the drain's position was saved, is not counted twice.
func (c *Control) AddDeadLetters(letters []messaging.DeadLetter) error {
	return c.changeDead("write dead letters", func(tx *deadTx) error {
		for i := range letters {
			if err := tx.add(&letters[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// add writes one, or lets it join its group.
func (tx *deadTx) add(d *messaging.DeadLetter) error {
	group := groupKey(d)
	id := string(tx.Get(bucketDeadGroups, group))
	if id == "" {
		id = d.ID
	}
	receiver := receiverKey(id, d.Message.Receiver.User)
	if tx.Get(bucketDeadReceivers, receiver) != nil {
		return nil
	}
	if err := tx.Put(bucketDeadGroups, group, []byte(id)); err != nil {
		return err
	}
	value := binary.BigEndian.AppendUint32(nil, d.Message.Position.Receiver)
	if d.Message.Receiver.Quoted {
		value = append(value, 1)
	} else {
		value = append(value, 0)
	}
	if err := tx.Put(bucketDeadReceivers, receiver, seal(bucketDeadReceivers, receiver, value)); err != nil {
		return err
	}
	record, err := getDeadLetter(tx, id)
	if err != nil {
		return err
	}
	if record == nil {
		record = new(deadLetterRecord)
		*record = deadLetterRecord(*d)
		record.ID, record.Recipients = id, 0
		tx.more[d.Kind]++
	}
	record.Recipients++
	record.Attempts = max(record.Attempts, d.Attempts)
	return tx.write(record)
}

func (tx *deadTx) write(record *deadLetterRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("%w: encode a dead letter: %w", ErrDamaged, err)
	}
	return tx.Put(bucketDead, record.ID, seal(bucketDead, record.ID, value))
}

// removeCopy takes one recipient out of a dead letter, and the letter with the
// last one.
func (tx *deadTx) removeCopy(c messaging.DeadCopy) error {
	record, err := getDeadLetter(tx, c.Letter)
	if err != nil || record == nil {
		return err
	}
	receiver := receiverKey(c.Letter, c.Message.Receiver.User)
	if tx.Get(bucketDeadReceivers, receiver) == nil {
		return nil
	}
	if err := tx.Delete(bucketDeadReceivers, receiver); err != nil {
		return err
	}
	if record.Recipients--; record.Recipients > 0 {
		return tx.write(record)
	}
	return tx.removeLetter(record)
}

// removeLetter removes a dead letter whose recipients are gone.
func (tx *deadTx) removeLetter(record *deadLetterRecord) error {
	letter := record.letter()
	tx.more[record.Kind]--
	if err := tx.Delete(bucketDeadGroups, groupKey(&letter)); err != nil {
		return err
	}
	return tx.Delete(bucketDead, record.ID)
}

func groupKey(d *messaging.DeadLetter) string {
	reason := fnv.New64a()
	_, _ = reason.Write([]byte(d.Reason)) // a hash does not fail
	key := binary.BigEndian.AppendUint64([]byte(d.Kind), d.Message.Position.Sequence)
	return string(reason.Sum(key))
}

func receiverKey(id string, user messaging.UserID) string { return id + "/" + string(user) }

// getDeadLetter gives nil where there is none.
func getDeadLetter(tx ControlTx, id string) (*deadLetterRecord, error) {
	sealed := tx.Get(bucketDead, id)
	if sealed == nil {
		return nil, nil //nolint:nilnil // absence is not an error here
	}
	return decodeDeadLetter(id, sealed)
}

func decodeDeadLetter(id string, sealed []byte) (*deadLetterRecord, error) {
	value, err := unseal(bucketDead, id, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, controlName, err)
	}
	var record deadLetterRecord
	if err := json.Unmarshal(value, &record); err != nil {
		return nil, fmt.Errorf("%w: %s: dead letter: %w", ErrDamaged, controlName, err)
	}
	return &record, nil
}

// Bounds of one page of a listing, so that what matches little, or is large,
// does not hold a transaction open for long or fill the memory.
const (
	deadLetterScan  = 10_000
	deadLetterBytes = 8 << 20
)

// ListDeadLetters gives one page of the listing, in the order of ids. A page
// ends before its limit where it has grown too large; it has at least one.
func (c *Control) ListDeadLetters(f messaging.DeadLetterFilter) (page messaging.DeadLetterPage, err error) {
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
			if matches(f, record) {
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

func matches(f messaging.DeadLetterFilter, d *deadLetterRecord) bool {
	return (f.Kind == "" || d.Kind == f.Kind) && (f.Reason == "" || d.Reason == f.Reason)
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

// SettleDead removes recipients from their dead letters, and letters with their
// last one: their messages have gone where they belong.
func (c *Control) SettleDead(copies []messaging.DeadCopy) error {
	return c.changeDead("settle dead letters", func(tx *deadTx) error {
		for _, dead := range copies {
			if err := tx.removeCopy(dead); err != nil {
				return err
			}
		}
		return nil
	})
}

// RefuseAgain notes that a recipient's message has failed once more: why, when,
// and one attempt more.
func (c *Control) RefuseAgain(dead messaging.DeadCopy, reason string, status int, at time.Time) error {
	return c.changeDead("write a dead letter", func(tx *deadTx) error {
		before, err := getDeadLetter(tx, dead.Letter)
		if err != nil || before == nil {
			return err
		}
		if err := tx.removeCopy(dead); err != nil {
			return err
		}
		// It becomes a letter of its own, or joins those that failed for the same
		// reason; what is left of its old one is as it was.
		again := before.letter()
		again.ID = messaging.DeadLetterID(before.Kind, dead.Message.ID)
		again.Attempts, again.FailedAt, again.StatusCode = before.Attempts+1, at, status
		again.Reason, again.Message = reason, dead.Message
		return tx.add(&again)
	})
}

// dropPage is how many recipients are dropped in one transaction.
const dropPage = 4096

// DropDeadLetter removes a dead letter for good; ok is false where there is
// none.
func (c *Control) DropDeadLetter(id string) (ok bool, err error) {
	letter, ok, err := c.FindDeadLetter(id)
	if err != nil || !ok {
		return false, err
	}
	for {
		copies, err := c.DeadCopies(&letter, "", dropPage)
		if err != nil || len(copies) == 0 {
			return true, err
		}
		if err := c.SettleDead(copies); err != nil {
			return true, err
		}
	}
}

// ExpireDeadLetters removes the dead letters that failed before a time, and
// says how many they were.
func (c *Control) ExpireDeadLetters(before time.Time) (n int, err error) {
	filter := messaging.DeadLetterFilter{Limit: 1000}
	for {
		page, err := c.ListDeadLetters(filter)
		if err != nil {
			return n, err
		}
		for i := range page.DeadLetters {
			if !page.DeadLetters[i].FailedAt.Before(before) {
				continue
			}
			if _, err := c.DropDeadLetter(page.DeadLetters[i].ID); err != nil {
				return n, err
			}
			n++
		}
		if page.Next == "" {
			return n, nil
		}
		filter.After = page.Next
	}
}
