package messaging

import (
	"crypto/sha256"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// MaxIdempotencyKey is the largest number of characters of an idempotency key.
const MaxIdempotencyKey = 255

// IdempotencyKey makes a call that stores messages safe to repeat: within a window,
// calls with the same scope and key store once. The zero IdempotencyKey is none.
type IdempotencyKey struct {
	// Scope identifies the caller and the call. Equal keys in different scopes are
	// independent.
	Scope [16]byte
	Key   string
	// Hash is the hash of the body without the key. The same key with another hash
	// is a conflict.
	Hash [sha256.Size]byte
}

// NewIdempotencyKey returns the key of a call by a caller.
func NewIdempotencyKey(caller, call, key string, hash [sha256.Size]byte) IdempotencyKey {
	scope := sha256.Sum256([]byte(call + "\x00" + caller))
	return IdempotencyKey{Scope: [16]byte(scope[:16]), Key: key, Hash: hash}
}

// ValidIdempotencyKey reports whether key has 1 to 255 visible ASCII characters.
func ValidIdempotencyKey(key string) bool {
	visible := func(r rune) bool { return r > ' ' && r < 0x7F }
	return key != "" && len(key) <= MaxIdempotencyKey && strings.IndexFunc(key, func(r rune) bool { return !visible(r) }) < 0
}

// idempotencyKey parses the field idempotency_key of a message.
func idempotencyKey(raw jsontext.Value) (string, error) {
	if raw.Kind() == '"' {
		if s, err := strictjson.Unquote(raw); err == nil && ValidIdempotencyKey(string(s)) {
			return string(s), nil
		}
	}
	return "", FieldErrorf(CodeInvalidField, "idempotency_key", "idempotency_key must be a string of 1 to %d visible characters", MaxIdempotencyKey)
}
