package controlfile

import (
	"encoding/binary"
	"fmt"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// Keys of the state.
const (
	// KeyIdentity is the key of the [Identity]: format:4 store id:16.
	KeyIdentity = "identity"
	// KeyWatermark is the key of the [Watermark]: sequence:8 generation:8.
	KeyWatermark = "watermark"
	// KeyPad is the key of the pad, which has no checksum.
	KeyPad = "pad"

	padLen = 1500
)

// Identity identifies the store that a file belongs to, and the store's format.
type Identity struct {
	Format  uint32
	StoreID messaging.MessageID
}

// IsOld reports whether a store needs an upgrade, including one that has begun.
func (i Identity) IsOld() bool {
	return i.Format == layout.Format1 || i.Format == layout.FormatUpgrading
}

// Watermark is a lower bound of what was acknowledged. It is written after the sync that
// it covers, so it is never ahead of the database.
type Watermark struct {
	Sequence   uint64
	Generation uint64
}

func (w Watermark) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, w.Sequence), w.Generation)
}

// Init writes the state of a new store.
func Init(file File, id messaging.MessageID, mark Watermark) error {
	return file.Update(func(tx Tx) error {
		for _, bucket := range StateBuckets() {
			if err := tx.Put(bucket, KeyPad, make([]byte, padLen)); err != nil {
				return err
			}
		}
		if err := PutIdentity(tx, Identity{Format: layout.Format, StoreID: id}); err != nil {
			return err
		}
		return putState(tx, KeyWatermark, mark.encode())
	})
}

// PutIdentity writes the identity.
func PutIdentity(tx Tx, id Identity) error {
	value := binary.BigEndian.AppendUint32(nil, id.Format)
	return putState(tx, KeyIdentity, append(value, id.StoreID[:]...))
}

// IsEmpty reports whether a file has no identity.
func IsEmpty(file File) (empty bool, err error) {
	err = file.View(func(tx Tx) error {
		empty = tx.Get(bucketState, KeyIdentity) == nil && tx.Get(bucketStateCopy, KeyIdentity) == nil
		return nil
	})
	return empty, err
}

// ReadIdentity reads the identity. It returns [layout.ErrFormat] for an unknown format.
func ReadIdentity(file File) (id Identity, err error) {
	err = file.View(func(tx Tx) error {
		value, err := getState(tx, KeyIdentity)
		if err != nil {
			return err
		}
		if len(value) != 4+16 {
			return fmt.Errorf("%w: %s does not say which store it belongs to", layout.ErrCorrupt, layout.ControlName)
		}
		id = Identity{Format: binary.BigEndian.Uint32(value), StoreID: messaging.MessageID(value[4:])}
		return nil
	})
	if err == nil && id.Format != layout.Format && !id.IsOld() {
		err = fmt.Errorf("%w: it is %d and this program reads %d; use the program that wrote it, or a newer one", layout.ErrFormat, id.Format, layout.Format)
	}
	return id, err
}

// ReadWatermark reads the watermark. It is zero if there is none.
func ReadWatermark(file File) (w Watermark, err error) {
	err = ViewState(file, KeyWatermark, 16, func(v []byte) {
		w = Watermark{Sequence: binary.BigEndian.Uint64(v), Generation: binary.BigEndian.Uint64(v[8:])}
	})
	return w, err
}

// ViewState calls use with a value of the state, if it exists. A value of another size
// returns [layout.ErrCorrupt].
func ViewState(file File, key string, size int, use func(value []byte)) error {
	return file.View(func(tx Tx) error {
		value, err := getState(tx, key)
		if err != nil || value == nil {
			return err
		}
		if len(value) != size {
			return fmt.Errorf("%w: %s: %s has a wrong size", layout.ErrCorrupt, layout.ControlName, key)
		}
		use(value)
		return nil
	})
}

func putState(tx Tx, key string, value []byte) error {
	for _, bucket := range StateBuckets() {
		if err := tx.Put(bucket, key, AppendChecksum(bucket, key, value)); err != nil {
			return err
		}
	}
	return nil
}

// getState returns the first undamaged copy. It returns nil if there is no copy.
func getState(tx Tx, key string) ([]byte, error) {
	var damage error
	for _, bucket := range StateBuckets() {
		sealed := tx.Get(bucket, key)
		if sealed == nil {
			continue
		}
		value, err := VerifyChecksum(bucket, key, sealed)
		if err == nil {
			return value, nil
		}
		damage = fmt.Errorf("%w: %s: %w", layout.ErrCorrupt, layout.ControlName, err)
	}
	return nil, damage
}
