package storage

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
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
	DeadLetterFields

	// LatestAt is when its latest recipient failed: it is kept for that one.
	LatestAt time.Time `json:"latest_at,omitzero"`
}

// DeadLetterFields are those of a [messaging.DeadLetter], under the names under
// which they are stored.
type DeadLetterFields struct {
	ID         string                   `json:"id"`
	Kind       messaging.DeadLetterKind `json:"kind"`
	Reason     string                   `json:"reason"`
	StatusCode int                      `json:"status_code"`
	Attempts   int                      `json:"attempts"`
	FailedAt   time.Time                `json:"failed_at"`
	Recipients int                      `json:"recipients"`
	Message    messaging.Message        `json:"message"`
}

func (r *deadLetterRecord) letter() messaging.DeadLetter {
	return messaging.DeadLetter(r.DeadLetterFields)
}

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
		record = &deadLetterRecord{DeadLetterFields: DeadLetterFields(*d)}
		record.ID, record.Recipients = id, 0
		tx.more[d.Kind]++
	}
	record.Recipients++
	record.Attempts = max(record.Attempts, d.Attempts)
	if d.FailedAt.After(record.FailedAt) && d.FailedAt.After(record.LatestAt) {
		record.LatestAt = d.FailedAt
	}
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

// ExpireDeadLetters removes the dead letters of which no recipient failed since
// a time, and says how many they were.
func (c *Control) ExpireDeadLetters(before time.Time) (n int, err error) {
	old := func(d *deadLetterRecord) bool { return d.FailedAt.Before(before) && d.LatestAt.Before(before) }
	filter := messaging.DeadLetterFilter{Limit: 1000}
	for {
		page, err := c.listDead(filter, old)
		if err != nil {
			return n, err
		}
		for i := range page.DeadLetters {
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
