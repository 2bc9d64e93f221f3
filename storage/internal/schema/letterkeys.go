package schema

import (
	"encoding/binary"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
)

// LetterKey identifies a dead letter: the recipients of one message that failed for one
// reason.
type LetterKey struct {
	Kind     messaging.DeadLetterKind
	Sequence uint64
	Reason   uint64 // the [ReasonHash]
}

// ReasonHash returns the hash of a reason, as used in keys (FNV-1a, 64 bits).
func ReasonHash(reason string) uint64 { return messaging.ReasonHash(reason) }

// Message returns the key of the letter's message.
func (k LetterKey) Message() LetterMessageKey { return LetterMessageKey{k.Kind, k.Sequence} }

// LetterMessageKey identifies the message of dead letters of one kind.
type LetterMessageKey struct {
	Kind     messaging.DeadLetterKind
	Sequence uint64
}

// LetterID is the id of a dead letter, split into its parts.
type LetterID struct {
	Kind    messaging.DeadLetterKind
	Message messaging.MessageID
}

// String returns the id in the form of the API.
func (i LetterID) String() string { return messaging.DeadLetterID(i.Kind, i.Message) }

// letterKinds has each kind at the index that is its byte in keys. Zero is no kind.
var letterKinds = [...]messaging.DeadLetterKind{1: messaging.Refused, 2: messaging.Undeliverable}

// LetterKinds lists the kinds in the order of their keys.
func LetterKinds() []messaging.DeadLetterKind { return letterKinds[1:] }

// KindByte returns the byte of a kind in keys, or 0 if it is no kind.
func KindByte(kind messaging.DeadLetterKind) byte {
	for b, k := range letterKinds {
		if k == kind {
			return byte(b)
		}
	}
	return 0
}

// KindOf returns the kind of a byte. ok is false if it is no kind.
func KindOf(b byte) (messaging.DeadLetterKind, bool) {
	if b == 0 || int(b) >= len(letterKinds) {
		return "", false
	}
	return letterKinds[b], true
}

// KindKey returns a key that consists of a table and a kind.
func KindKey(table byte, kind messaging.DeadLetterKind) []byte { return []byte{table, KindByte(kind)} }

// EncodeLetterMessageKey returns the key of the message of dead letters.
func EncodeLetterMessageKey(k LetterMessageKey) []byte {
	return binary.BigEndian.AppendUint64(KindKey(TableLetterMessage, k.Kind), k.Sequence)
}

// EncodeLetterKey returns the key of a dead letter.
func EncodeLetterKey(k LetterKey) []byte {
	return binary.BigEndian.AppendUint64(LettersPrefix(k.Message()), k.Reason)
}

// LettersPrefix returns the key prefix of all letters of a message.
func LettersPrefix(k LetterMessageKey) []byte {
	return binary.BigEndian.AppendUint64(KindKey(TableLetter, k.Kind), k.Sequence)
}

// ReasonPrefix returns the key prefix of the recipients that failed for a reason.
func ReasonPrefix(kind messaging.DeadLetterKind, reason uint64) []byte {
	return binary.BigEndian.AppendUint64(KindKey(TableLetterRecipient, kind), reason)
}

// RecipientsPrefix returns the key prefix of a letter's recipients.
func RecipientsPrefix(k LetterKey) []byte {
	return binary.BigEndian.AppendUint64(ReasonPrefix(k.Kind, k.Reason), k.Sequence)
}

// RecipientKey returns the key of a recipient of a dead letter.
func RecipientKey(k LetterKey, user messaging.UserID) []byte {
	key := append(RecipientsPrefix(k), byte(len(user))) //nolint:gosec // at most 64
	return append(key, user...)
}

// LetterIDKey returns the key of a dead letter's id.
func LetterIDKey(id LetterID) []byte {
	return append(KindKey(TableLetterID, id.Kind), id.Message[:]...)
}

// JobKey returns the key of a job.
func JobKey(id string) []byte { return append([]byte{TableJob}, id...) }

// MaxJobID bounds the length of a job id, which is a UUID.
const MaxJobID = 64

// ParseJobKey parses the key of a job.
func ParseJobKey(key []byte) (string, error) {
	if len(key) < 2 || len(key) > 1+MaxJobID {
		return "", ErrKey
	}
	return string(key[1:]), nil
}

// ParseLetterMessageKey parses the key of the message of dead letters.
func ParseLetterMessageKey(key []byte) (LetterMessageKey, error) {
	if len(key) != 1+1+8 {
		return LetterMessageKey{}, ErrKey
	}
	kind, ok := KindOf(key[1])
	if !ok {
		return LetterMessageKey{}, ErrKey
	}
	return LetterMessageKey{kind, binary.BigEndian.Uint64(key[2:])}, nil
}

// ParseLetterKey parses the key of a dead letter.
func ParseLetterKey(key []byte) (LetterKey, error) {
	if len(key) != 1+1+8+8 {
		return LetterKey{}, ErrKey
	}
	message, err := ParseLetterMessageKey(key[:10])
	return LetterKey{message.Kind, message.Sequence, binary.BigEndian.Uint64(key[10:])}, err
}

// ParseRecipientKey parses the key of a recipient of a dead letter.
func ParseRecipientKey(key []byte) (LetterKey, messaging.UserID, error) {
	const fixed = 1 + 1 + 8 + 8 + 1
	if len(key) <= fixed || len(key) != fixed+int(key[fixed-1]) || key[fixed-1] > messaging.MaxIDLength {
		return LetterKey{}, "", ErrKey
	}
	kind, ok := KindOf(key[1])
	if !ok {
		return LetterKey{}, "", ErrKey
	}
	k := LetterKey{Kind: kind, Reason: binary.BigEndian.Uint64(key[2:]), Sequence: binary.BigEndian.Uint64(key[10:])}
	return k, messaging.UserID(key[fixed:]), nil
}

// ParseLetterIDKey parses the key of a dead letter's id.
func ParseLetterIDKey(key []byte) (LetterID, error) {
	if len(key) != 1+1+16 {
		return LetterID{}, ErrKey
	}
	kind, ok := KindOf(key[1])
	if !ok {
		return LetterID{}, ErrKey
	}
	return LetterID{kind, messaging.MessageID(key[2:])}, nil
}

// DerivedLetterID returns the id of a dead letter whose recipients' ids all belong to
// other letters. It is a UUID version 5 of the letter's key.
func DerivedLetterID(k LetterKey) messaging.MessageID {
	return uuid.NewV5(uuid.NamespaceOID, string(EncodeLetterKey(k)))
}
