package storage

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging"
)

// A dead letter stands under its id. Copies of a broadcast that failed for one
// reason share the first one's: the group bucket finds it by sequence and
// reason, the receivers bucket holds every copy's number.
//
//	dead_letters           <kind>-<message id>            → JSON, checksum
//	dead_letter_groups     <kind> seq:8 hash of reason:8  → id
//	dead_letter_receivers  id receiver:4                  → nothing
//	state                  dead_<kind>                    → count:8

// deadLetterRecord is a dead letter as it is stored.
type deadLetterRecord struct {
	messaging.DeadLetter
	Position messaging.Position `json:"position"`
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

// AddDeadLetters makes dead letters durable. One that is there already, from a
// time before the drain's position was saved, is not counted twice.
func (c *Control) AddDeadLetters(letters []messaging.DeadLetter) error {
	err := c.update("write dead letters", func(tx ControlTx) error {
		added := make(map[messaging.DeadLetterKind]uint64)
		for i := range letters {
			isNew, err := addDeadLetter(tx, &letters[i])
			if err != nil {
				return err
			}
			if isNew {
				added[letters[i].Kind]++
			}
		}
		for kind, n := range added {
			count, err := deadCount(tx, kind)
			if err != nil {
				return err
			}
			if err := putState(tx, deadCountKey(kind), binary.BigEndian.AppendUint64(nil, count+n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.dead.load(c.file)
}

// addDeadLetter writes one; isNew is false where it joined a group or was
// there already.
func addDeadLetter(tx ControlTx, d *messaging.DeadLetter) (isNew bool, err error) {
	group := groupKey(d)
	id := string(tx.Get(bucketDeadGroups, group))
	if id == "" {
		id = d.ID
		if err := tx.Put(bucketDeadGroups, group, []byte(id)); err != nil {
			return false, err
		}
	}
	receiver := receiverKey(id, d.Position.Receiver)
	if tx.Get(bucketDeadReceivers, receiver) != nil {
		return false, nil
	}
	if err := tx.Put(bucketDeadReceivers, receiver, []byte{1}); err != nil {
		return false, err
	}
	record, err := getDeadLetter(tx, id)
	if err != nil {
		return false, err
	}
	isNew = record == nil
	if isNew {
		record = &deadLetterRecord{DeadLetter: *d, Position: d.Position}
		record.Recipients = 0
	}
	record.Recipients++
	value, err := json.Marshal(record)
	if err != nil {
		return false, fmt.Errorf("%w: encode a dead letter: %w", ErrDamaged, err)
	}
	return isNew, tx.Put(bucketDead, id, seal(bucketDead, id, value))
}

func groupKey(d *messaging.DeadLetter) string {
	reason := fnv.New64a()
	_, _ = reason.Write([]byte(d.Reason)) // a hash does not fail
	key := binary.BigEndian.AppendUint64([]byte(d.Kind), d.Position.Sequence)
	return string(reason.Sum(key))
}

func receiverKey(id string, receiver uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte(id), receiver))
}

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
	record.DeadLetter.Position = record.Position
	return &record, nil
}

// deadLetterScan bounds how many dead letters one page looks at, so that a
// filter that matches little does not hold a transaction open for long.
const deadLetterScan = 10_000

// ListDeadLetters gives one page of the listing, in the order of ids.
func (c *Control) ListDeadLetters(f messaging.DeadLetterFilter) (page messaging.DeadLetterPage, err error) {
	page.Total = c.deadTotal(f.Kind)
	from := f.After
	if from != "" {
		from += "\x00"
	}
	scanned, last := 0, ""
	viewErr := c.file.View(func(tx ControlTx) error {
		tx.Scan(bucketDead, from, func(id string, sealed []byte) bool {
			if len(page.DeadLetters) == f.Limit || scanned == deadLetterScan {
				page.Next = last
				return false
			}
			scanned++
			last = id
			var record *deadLetterRecord
			if record, err = decodeDeadLetter(id, sealed); err != nil {
				return false
			}
			if matches(f, &record.DeadLetter) {
				page.DeadLetters = append(page.DeadLetters, record.DeadLetter)
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

func matches(f messaging.DeadLetterFilter, d *messaging.DeadLetter) bool {
	return (f.Kind == "" || d.Kind == f.Kind) && (f.Reason == "" || d.Reason == f.Reason)
}

// FindDeadLetter gives one dead letter; ok is false where there is none.
func (c *Control) FindDeadLetter(id string) (letter messaging.DeadLetter, ok bool, err error) {
	err = c.file.View(func(tx ControlTx) error {
		record, err := getDeadLetter(tx, id)
		if record != nil {
			letter, ok = record.DeadLetter, true
		}
		return err
	})
	return letter, ok, err
}
