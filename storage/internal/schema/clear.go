package schema

import (
	"encoding/binary"

	"github.com/stayafrica/messaging"
)

// Clear is a clear of a user's queue that is not finished. No entry of the
// queue at or below UpTo is handed out or counted, and none is written there
// until the mark is removed: the change that removes the last entry and timer
// removes it.
//
//	version:1  up to:8
type Clear struct {
	User messaging.UserID
	UpTo uint64
}

// ClearLen is the length of the value of a [Clear].
const ClearLen = 1 + 8

// Encode writes the value into dst, which has [ClearLen] bytes.
func (c Clear) Encode(dst []byte) {
	dst[0] = 1
	binary.BigEndian.PutUint64(dst[1:], c.UpTo)
}

// DecodeClear reads a clear from its key and its value.
func DecodeClear(key, src []byte) (Clear, error) {
	user, rest, ok := CutUserID(key)
	if !ok || len(rest) > 0 || len(src) != ClearLen || src[0] != 1 {
		return Clear{}, ErrValue
	}
	return Clear{User: messaging.UserID(user), UpTo: binary.BigEndian.Uint64(src[1:])}, nil
}

// Cleared says up to which sequence each user's queue is cleared.
type Cleared map[messaging.UserID]uint64

// Has says whether an entry of a sequence is cleared.
func (m Cleared) Has(user messaging.UserID, seq uint64) bool { return seq <= m[user] }
