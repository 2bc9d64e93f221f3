package schema

import (
	"encoding/binary"

	"github.com/stayafrica/messaging"
)

// Clear is an unfinished clear of a user's queue. No entry of the queue at or below UpTo
// is delivered or counted, and none is written there until the mark is removed. The
// change that removes the last such entry and timer removes the mark.
//
//	version:1  up to:8
type Clear struct {
	User messaging.UserID
	UpTo uint64
}

// ClearLen is the length of the value of a [Clear].
const ClearLen = 1 + 8

// Encode writes the value to dst, which must have [ClearLen] bytes.
func (c Clear) Encode(dst []byte) {
	dst[0] = 1
	binary.BigEndian.PutUint64(dst[1:], c.UpTo)
}

// DecodeClear decodes a clear from its key and value.
func DecodeClear(key, src []byte) (Clear, error) {
	user, rest, ok := CutUserID(key)
	if !ok || len(rest) > 0 || len(src) != ClearLen || src[0] != 1 {
		return Clear{}, ErrValue
	}
	return Clear{User: messaging.UserID(user), UpTo: binary.BigEndian.Uint64(src[1:])}, nil
}

// Cleared is the sequence up to which each user's queue is cleared.
type Cleared map[messaging.UserID]uint64

// Has reports whether the entry of a sequence is cleared.
func (m Cleared) Has(user messaging.UserID, seq uint64) bool { return seq <= m[user] }
