package controlfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/stayafrica/messaging/storage/internal/layout"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum returns the checksum of a value. It covers the bucket and the key, so that a
// misplaced value is detected.
func sum(bucket, key string, value []byte) uint32 {
	crc := crc32.Update(0, castagnoli, []byte(bucket))
	crc = crc32.Update(crc, castagnoli, []byte(key))
	return crc32.Update(crc, castagnoli, value)
}

// AppendChecksum returns a copy of a value with its checksum after it.
func AppendChecksum(bucket, key string, value []byte) []byte {
	sealed := append(make([]byte, 0, len(value)+4), value...)
	return binary.BigEndian.AppendUint32(sealed, sum(bucket, key, value))
}

// ErrChecksum means that a value differs from what was written.
var ErrChecksum = errors.New("checksum does not match")

// VerifyChecksum returns a value without its checksum, or [ErrChecksum].
func VerifyChecksum(bucket, key string, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("%s/%s: %w", bucket, key, ErrChecksum)
	}
	value := sealed[:len(sealed)-4]
	if binary.BigEndian.Uint32(sealed[len(value):]) != sum(bucket, key, value) {
		return nil, fmt.Errorf("%s/%s: %w", bucket, key, ErrChecksum)
	}
	return value, nil
}

// Scan calls each for the values of a bucket from a key on, without their checksums,
// until each returns false. A checksum mismatch ends it with [layout.ErrCorrupt].
func Scan(file File, bucket, from string, each func(key string, value []byte) (bool, error)) error {
	return file.View(func(tx Tx) (err error) {
		tx.Scan(bucket, from, func(key string, sealed []byte) bool {
			value, unsealed := VerifyChecksum(bucket, key, sealed)
			if err = unsealed; err != nil {
				err = fmt.Errorf("%w: %s: %w", layout.ErrCorrupt, layout.ControlName, err)
				return false
			}
			var more bool
			more, err = each(key, value)
			return more && err == nil
		})
		return err
	})
}
