package messaging

import (
	"errors"
	"hash/fnv"
	"strconv"
	"strings"
)

// DeadLetterKey identifies a dead letter for its whole life. Its id does not: a
// recipient that fails for another reason moves to the dead letter of that reason, and
// the id of its message moves with it. Keys are ordered by kind, sequence and reason.
type DeadLetterKey struct {
	Kind     DeadLetterKind
	Sequence uint64
	Reason   uint64 // the [ReasonHash] of the reason
}

// ReasonHash returns the hash of a reason in keys (FNV-1a, 64 bits).
func ReasonHash(reason string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(reason)) // a hash does not fail
	return h.Sum64()
}

// Key returns the key of the dead letter.
func (d *DeadLetter) Key() DeadLetterKey {
	return DeadLetterKey{d.Kind, d.Message.Position.Sequence, ReasonHash(d.Reason)}
}

// MarshalText writes the key as "<kind>-<sequence>-<reason in hexadecimal>". The zero key
// is empty.
func (k DeadLetterKey) MarshalText() ([]byte, error) {
	if k == (DeadLetterKey{}) {
		return nil, nil
	}
	text := append([]byte(k.Kind), '-')
	text = append(strconv.AppendUint(text, k.Sequence, 10), '-')
	return strconv.AppendUint(text, k.Reason, 16), nil
}

var errDeadLetterKey = errors.New("not the key of a dead letter")

// UnmarshalText parses the format of [DeadLetterKey.MarshalText].
func (k *DeadLetterKey) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*k = DeadLetterKey{}
		return nil
	}
	parts := strings.Split(string(text), "-")
	if len(parts) != 3 {
		return errDeadLetterKey
	}
	kind := DeadLetterKind(parts[0])
	sequence, err := strconv.ParseUint(parts[1], 10, 64)
	reason, reasonErr := strconv.ParseUint(parts[2], 16, 64)
	if err != nil || reasonErr != nil || (kind != Refused && kind != Undeliverable) {
		return errDeadLetterKey
	}
	*k = DeadLetterKey{kind, sequence, reason}
	return nil
}

// DeadLetterScan selects dead letters in the order of their keys.
type DeadLetterScan struct {
	// After is the key after which the scan begins; the zero key is before all others.
	After DeadLetterKey
	// Limit is the largest number of dead letters to return.
	Limit int
	// Kind and Reason select dead letters if they are not empty. Reason must be
	// equal to the whole reason.
	Kind   DeadLetterKind
	Reason string
}

// Claim is the outcome of a job's claim on a recipient of a dead letter.
type Claim uint8

const (
	// ClaimGone means that the recipient is no longer in that dead letter.
	ClaimGone Claim = iota
	// Claimed means that the job holds the claim.
	Claimed
	// ClaimedElsewhere means that another running job holds the claim.
	ClaimedElsewhere
	// ClaimRefused means that the job already redrove the recipient and the message
	// was refused.
	ClaimRefused
)
