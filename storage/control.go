package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/stayafrica/messaging"
)

// ControlFile is the small key-value file beside the database: transactions
// that are durable when update returns. bbolt is the real one; tests of crashes
// bring one that can forget what was not synced.
type ControlFile interface {
	View(use func(tx ControlTx) error) error
	Update(change func(tx ControlTx) error) error
	Close() error
}

// ControlTx reads and writes within one transaction. Values are valid until it
// ends. No transaction may outlive one page of results in memory.
type ControlTx interface {
	// Get gives nil for what is not there.
	Get(bucket, key string) []byte
	Put(bucket, key string, value []byte) error
	Delete(bucket, key string) error
	// Scan calls each in key order from the first key not before from, until it
	// returns false.
	Scan(bucket, from string, each func(key string, value []byte) bool)
}

// Control is the control state: which store this is, how far it was
// acknowledged, how far the drain came, the dead letters and the jobs. Every value
// carries a checksum, because bbolt has none; what the store cannot do without
// stands in two buckets, on pages of their own.
//
// It is a second fsync domain. The watermark and the drain's position may be a
// little old: they only ever say "at least". A dead letter is written before
// the position passes it.
type Control struct {
	file  ControlFile
	fatal func(doing string, err error)
	// release gives the reserve free and says whether there was one.
	release func() bool
	dead    deadCounts
}

// Buckets. The state stands in both stateBuckets.
const (
	bucketState         = "state"
	bucketStateCopy     = "state_copy"
	bucketDead          = "dead_letters"
	bucketDeadGroups    = "dead_letter_groups"
	bucketDeadReceivers = "dead_letter_receivers"
	bucketJobs          = "jobs"
)

// stateBuckets hold the same. Each has a pad that is too large for bbolt to
// keep the bucket inside its parent's page, so that they share no page.
var stateBuckets = [...]string{bucketState, bucketStateCopy}

// controlBuckets are all that there may be: a bucket of another name is one
// whose name was damaged.
var controlBuckets = [...]string{bucketState, bucketStateCopy, bucketDead, bucketDeadGroups, bucketDeadReceivers, bucketJobs}

const (
	keyIdentity  = "identity"
	keyWatermark = "watermark"
	keyPosition  = "drain_position"
	keyPad       = "pad"
	padLen       = 1500
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a value: over its bucket and key too, so that a value
// in the wrong place does not pass.
func sum(bucket, key string, value []byte) uint32 {
	crc := crc32.Update(0, castagnoli, []byte(bucket))
	crc = crc32.Update(crc, castagnoli, []byte(key))
	return crc32.Update(crc, castagnoli, value)
}

func seal(bucket, key string, value []byte) []byte {
	sealed := append(make([]byte, 0, len(value)+4), value...)
	return binary.BigEndian.AppendUint32(sealed, sum(bucket, key, value))
}

var errSeal = errors.New("checksum does not match")

func unseal(bucket, key string, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("%s/%s: %w", bucket, key, errSeal)
	}
	value := sealed[:len(sealed)-4]
	if binary.BigEndian.Uint32(sealed[len(value):]) != sum(bucket, key, value) {
		return nil, fmt.Errorf("%s/%s: %w", bucket, key, errSeal)
	}
	return value, nil
}

func putState(tx ControlTx, key string, value []byte) error {
	for _, bucket := range stateBuckets {
		if err := tx.Put(bucket, key, seal(bucket, key, value)); err != nil {
			return err
		}
	}
	return nil
}

// getState gives the first copy that is whole; nil where there is none at all.
func getState(tx ControlTx, key string) ([]byte, error) {
	var damage error
	for _, bucket := range stateBuckets {
		sealed := tx.Get(bucket, key)
		if sealed == nil {
			continue
		}
		value, err := unseal(bucket, key, sealed)
		if err == nil {
			return value, nil
		}
		damage = fmt.Errorf("%w: %s: %w", ErrDamaged, controlName, err)
	}
	return nil, damage
}

type identity struct {
	format  uint32
	storeID messaging.MessageID
}

// create writes the state of a new store.
func (c *Control) create(id messaging.MessageID) error {
	return c.file.Update(func(tx ControlTx) error {
		for _, bucket := range stateBuckets {
			if err := tx.Put(bucket, keyPad, make([]byte, padLen)); err != nil {
				return err
			}
		}
		value := binary.BigEndian.AppendUint32(nil, Format)
		if err := putState(tx, keyIdentity, append(value, id[:]...)); err != nil {
			return err
		}
		return putState(tx, keyWatermark, Watermark{}.encode())
	})
}

func (c *Control) isEmpty() (empty bool, err error) {
	err = c.file.View(func(tx ControlTx) error {
		empty = tx.Get(bucketState, keyIdentity) == nil && tx.Get(bucketStateCopy, keyIdentity) == nil
		return nil
	})
	return empty, err
}

// identity reads which store this is, and refuses a format not known.
func (c *Control) identity() (id identity, err error) {
	err = c.file.View(func(tx ControlTx) error {
		value, err := getState(tx, keyIdentity)
		if err != nil {
			return err
		}
		if len(value) != 4+16 {
			return fmt.Errorf("%w: %s does not say which store it belongs to", ErrDamaged, controlName)
		}
		id = identity{format: binary.BigEndian.Uint32(value), storeID: messaging.MessageID(value[4:])}
		return nil
	})
	if err == nil && id.format != Format {
		err = fmt.Errorf("%w: it is %d and this program reads %d; use the program that wrote it, or a newer one", ErrFormat, id.format, Format)
	}
	return id, err
}

// Watermark is what was acknowledged at least: written after the sync that it
// covers, so it never runs ahead of the database.
type Watermark struct {
	Sequence   uint64
	Generation uint64
}

func (w Watermark) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, w.Sequence), w.Generation)
}

// Watermark reads the watermark.
func (c *Control) Watermark() (w Watermark, err error) {
	err = c.viewState(keyWatermark, 16, func(v []byte) {
		w = Watermark{Sequence: binary.BigEndian.Uint64(v), Generation: binary.BigEndian.Uint64(v[8:])}
	})
	return w, err
}

// SaveWatermark makes the watermark durable.
func (c *Control) SaveWatermark(w Watermark) error {
	return c.update("save the watermark", func(tx ControlTx) error { return putState(tx, keyWatermark, w.encode()) })
}

// Position reads how far the drain came: the lowest place not yet settled.
func (c *Control) Position() (p messaging.Position, err error) {
	err = c.viewState(keyPosition, 12, func(v []byte) {
		p = messaging.Position{Sequence: binary.BigEndian.Uint64(v), Receiver: binary.BigEndian.Uint32(v[8:])}
	})
	return p, err
}

// SavePosition makes the drain's position durable.
func (c *Control) SavePosition(p messaging.Position) error {
	value := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, p.Sequence), p.Receiver)
	return c.update("save the drain's position", func(tx ControlTx) error { return putState(tx, keyPosition, value) })
}

// viewState calls use with a state value, if there is one.
func (c *Control) viewState(key string, size int, use func(value []byte)) error {
	return c.file.View(func(tx ControlTx) error {
		value, err := getState(tx, key)
		if err != nil || value == nil {
			return err
		}
		if len(value) != size {
			return fmt.Errorf("%w: %s: %s has a wrong size", ErrDamaged, controlName, key)
		}
		use(value)
		return nil
	})
}

// update runs a durable transaction. On a full disk it gives the reserve free
// and tries once more: the drain and the dead letters go on. Without a reserve
// the caller is told, who tries again later; any other failure of the file ends
// the process.
func (c *Control) update(doing string, change func(tx ControlTx) error) error {
	err := c.file.Update(change)
	if isDiskFull(err) && c.release != nil && c.release() {
		err = c.file.Update(change)
	}
	switch {
	case err == nil, errors.Is(err, ErrDamaged):
		return err
	case isDiskFull(err):
		return fmt.Errorf("%s: %w: %w", doing, ErrDiskFull, err)
	}
	c.fatal(doing, err)
	return err
}

// load reads what Control keeps in memory.
func (c *Control) load() error { return c.dead.load(c.file) }
