package schema

import (
	"encoding/binary"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
)

// LetterKey names a dead letter: the recipients of one message that failed for
// one reason.
type LetterKey struct {
	Kind     messaging.DeadLetterKind
	Sequence uint64
	Reason   uint64 // by [ReasonHash]
}

// ReasonHash is the hash of a reason in keys (FNV-1a, 64 bits).
func ReasonHash(reason string) uint64 { return messaging.ReasonHash(reason) }

// Message names the message that the letter is about.
func (k LetterKey) Message() LetterMessageKey { return LetterMessageKey{k.Kind, k.Sequence} }

// LetterMessageKey names the message of dead letters of one kind.
type LetterMessageKey struct {
	Kind     messaging.DeadLetterKind
	Sequence uint64
}

// LetterID is the id of a dead letter, by its parts.
type LetterID struct {
	Kind    messaging.DeadLetterKind
	Message messaging.MessageID
}

// String returns the id as the interface has it.
func (i LetterID) String() string { return messaging.DeadLetterID(i.Kind, i.Message) }

// letterKinds returns each kind its byte in keys: its index. Zero is no kind.
var letterKinds = [...]messaging.DeadLetterKind{1: messaging.Refused, 2: messaging.Undeliverable}

// LetterKinds lists the kinds in the order of their keys.
func LetterKinds() []messaging.DeadLetterKind { return letterKinds[1:] }

// KindByte returns the byte of a kind in keys; 0 for no kind.
func KindByte(kind messaging.DeadLetterKind) byte {
	for b, k := range letterKinds {
		if k == kind {
			return byte(b)
		}
	}
	return 0
}

// KindOf returns the kind of a byte; ok is false for no kind.
func KindOf(b byte) (messaging.DeadLetterKind, bool) {
	if b == 0 || int(b) >= len(letterKinds) {
		return "", false
	}
	return letterKinds[b], true
}

// KindKey returns a key that begins with a kind.
func KindKey(table byte, kind messaging.DeadLetterKind) []byte { return []byte{table, KindByte(kind)} }

// EncodeLetterMessageKey returns the key of the message of dead letters.
func EncodeLetterMessageKey(k LetterMessageKey) []byte {
	return binary.BigEndian.AppendUint64(KindKey(TableLetterMessage, k.Kind), k.Sequence)
}

// EncodeLetterKey returns the key of a dead letter.
func EncodeLetterKey(k LetterKey) []byte {
	return binary.BigEndian.AppendUint64(LettersPrefix(k.Message()), k.Reason)
}

// LettersPrefix begins the keys of all letters of a message.
func LettersPrefix(k LetterMessageKey) []byte {
	return binary.BigEndian.AppendUint64(KindKey(TableLetter, k.Kind), k.Sequence)
}

// ReasonPrefix begins the keys of the recipients that failed for a reason.
func ReasonPrefix(kind messaging.DeadLetterKind, reason uint64) []byte {
	return binary.BigEndian.AppendUint64(KindKey(TableLetterRecipient, kind), reason)
}

// RecipientsPrefix begins the keys of a letter's recipients.
func RecipientsPrefix(k LetterKey) []byte {
	return binary.BigEndian.AppendUint64(ReasonPrefix(k.Kind, k.Reason), k.Sequence)
}

// RecipientKey returns the key of a recipient of a dead letter.
func RecipientKey(k LetterKey, user messaging.UserID) []byte {
	key := append(RecipientsPrefix(k), byte(len(user))) //nolint:gosec // at most 64
	return append(key, user...)
}

// LetterIDKey returns the key of the id of a dead letter.
func LetterIDKey(id LetterID) []byte {
	return append(KindKey(TableLetterID, id.Kind), id.Message[:]...)
}

// JobKey returns the key of a job.
func JobKey(id string) []byte { return append([]byte{TableJob}, id...) }

// MaxJobID bounds the ids of jobs, which are UUIDs.
const MaxJobID = 64

// ParseJobKey reads the id of a job from its key.
func ParseJobKey(key []byte) (string, error) {
	if len(key) < 2 || len(key) > 1+MaxJobID {
		return "", ErrKey
	}
	return string(key[1:]), nil
}

// ParseLetterMessageKey reads the key of the message of dead letters.
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

// ParseLetterKey reads the key of a dead letter.
func ParseLetterKey(key []byte) (LetterKey, error) {
	if len(key) != 1+1+8+8 {
		return LetterKey{}, ErrKey
	}
	message, err := ParseLetterMessageKey(key[:10])
	return LetterKey{message.Kind, message.Sequence, binary.BigEndian.Uint64(key[10:])}, err
}

// ParseRecipientKey reads the key of a recipient of a dead letter.
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

// ParseLetterIDKey reads the key of the id of a dead letter.
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

// DerivedLetterID is the id of a dead letter whose recipients' ids are all those
// of other letters: a UUID version 5 of its key.
func DerivedLetterID(k LetterKey) messaging.MessageID {
	return uuid.NewV5(uuid.NamespaceOID, string(EncodeLetterKey(k)))
}
