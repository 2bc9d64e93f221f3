package messaging

import (
	"crypto/sha256"
	"math"

	"github.com/gofrs/uuid/v5"
)

// MaxIDLength is the largest number of characters of an id.
const MaxIDLength = 64

// UserID identifies a user and the user's queue. It is the canonical text of the id:
// the digits of a number, the characters of a string. 789 and "789" are one user.
type UserID string

// MessageID is the id of a message: a UUIDv7 for a sent message, a UUIDv8 for a
// receiver's copy of a broadcast.
type MessageID = uuid.UUID

// ParseUserID parses a user id from a path or a flag.
func ParseUserID(s string) (UserID, bool) {
	if !validID(s) {
		return "", false
	}
	return UserID(s), true
}

// CopyID returns the id of one receiver's copy of a broadcast. It is a UUIDv8 (RFC
// 9562 section 5.8): the first 122 free bits of SHA-256 over the broadcast's id and
// the user. The same arguments always return the same id.
func CopyID(broadcast MessageID, user UserID) MessageID {
	var buf [uuid.Size + MaxIDLength]byte
	sum := sha256.Sum256(append(append(buf[:0], broadcast[:]...), user...))
	id := MessageID(sum[:uuid.Size])
	id.SetVersion(uuid.V8)
	id.SetVariant(uuid.VariantRFC9562)
	return id
}

// validID reports whether s is a valid id: 1 to 64 characters of the alphabet of ids,
// but not "." or "..", because URL clients remove them from paths.
func validID[T string | []byte](s T) bool {
	return string(s) != "." && string(s) != ".." && storedID(s)
}

// storedID reports whether s may be an id in a store: earlier versions accepted "."
// and "..". Digits are in the alphabet, so the text of a number is valid too.
func storedID[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > MaxIDLength {
		return false
	}
	for i := range len(s) {
		if !isIDByte(s[i]) {
			return false
		}
	}
	return true
}

func isIDByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	case c == '_', c == '.', c == ':', c == '@', c == '-':
		return true
	}
	return false
}

// idNumber parses a JSON number that is an integer from 0 to 2^63-1. It refuses a
// sign, a fraction or an exponent, even if the value is such an integer.
func idNumber(raw []byte) (n uint64, ok bool) {
	const digits = 19 // of 2^63-1
	if len(raw) == 0 || len(raw) > digits {
		return 0, false
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= math.MaxInt64
}

func validIDNumber(raw []byte) bool {
	_, ok := idNumber(raw)
	return ok
}
