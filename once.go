package messaging

import (
	"crypto/sha256"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxIdempotencyKey is how many characters an idempotency key may have.
const MaxIdempotencyKey = 255

// Once makes a call that stores something safe to repeat: within a window, one
// scope's calls with the same key store once. The zero Once asks for nothing.
type Once struct {
	// Scope tells callers and calls apart: one's keys are nothing to another.
	Scope [16]byte
	Key   string
	// Hash is of the body without the key; the same key with another hash is a
	// conflict.
	Hash [sha256.Size]byte
}

// NewOnce makes the Once of a caller's call.
func NewOnce(caller, call, key string, hash [sha256.Size]byte) Once {
	scope := sha256.Sum256([]byte(call + "\x00" + caller))
	return Once{Scope: [16]byte(scope[:16]), Key: key, Hash: hash}
}

// ValidIdempotencyKey says whether key has 1 to 255 visible characters of
// ASCII.
func ValidIdempotencyKey(key string) bool {
	visible := func(r rune) bool { return r > ' ' && r < 0x7F }
	return key != "" && len(key) <= MaxIdempotencyKey && strings.IndexFunc(key, func(r rune) bool { return !visible(r) }) < 0
}

// idempotencyKey reads the field of a message.
func idempotencyKey(raw jsontext.Value) (string, error) {
	if raw.Kind() == '"' {
		if s, err := unquote(raw); err == nil && ValidIdempotencyKey(string(s)) {
			return string(s), nil
		}
	}
	return "", FieldErrorf(CodeInvalidField, "idempotency_key", "idempotency_key must be a string of 1 to %d visible characters", MaxIdempotencyKey)
}
