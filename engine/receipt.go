package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/stayafrica/messaging"
)

// A receipt is what a reader acknowledges a message with. It names one delivery
// of one message to one user by one run of the service:
//
//	nonce:8  user:4 (of SHA-256)  priority:1  sequence:uvarint  deliveries:uvarint  lease:uvarint
//
// in the URL-safe alphabet of base64, without padding. The lease has a number of
// its own, because the count of deliveries begins anew when a message is
// redriven, and does not move when an answer did not arrive.
type receipt struct {
	nonce      uint64
	user       uint32
	priority   messaging.Priority
	sequence   uint64
	deliveries uint32
	lease      uint64
}

const receiptFixed = 8 + 4 + 1

// newNonce draws what tells this run's receipts from others'. No receipt may
// begin with a hyphen: a command line would take it for a flag.
func newNonce() uint64 {
	const hyphen = 62 // in the alphabet
	for {
		if nonce := rand.Uint64(); nonce>>(64-6) != hyphen { //nolint:gosec // it is no secret
			return nonce
		}
	}
}

func userTag(user messaging.UserID) uint32 {
	sum := sha256.Sum256([]byte(user))
	return binary.BigEndian.Uint32(sum[:])
}

func (r receipt) encode() string {
	dst := binary.BigEndian.AppendUint64(make([]byte, 0, receiptFixed+3*binary.MaxVarintLen64), r.nonce)
	dst = binary.BigEndian.AppendUint32(dst, r.user)
	dst = append(dst, byte(r.priority))
	dst = binary.AppendUvarint(dst, r.sequence)
	dst = binary.AppendUvarint(dst, uint64(r.deliveries))
	dst = binary.AppendUvarint(dst, r.lease)
	return base64.RawURLEncoding.EncodeToString(dst)
}

// decodeReceipt reads a receipt; ok is false for text that encode has not
// written.
func decodeReceipt(text string) (r receipt, ok bool) {
	const longest = 64
	if len(text) > longest {
		return receipt{}, false
	}
	src, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(src) < receiptFixed || src[12] >= messaging.Priorities {
		return receipt{}, false
	}
	r = receipt{nonce: binary.BigEndian.Uint64(src), user: binary.BigEndian.Uint32(src[8:]), priority: messaging.Priority(src[12])}
	rest := src[receiptFixed:]
	var deliveries uint64
	for _, field := range []*uint64{&r.sequence, &deliveries, &r.lease} {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return receipt{}, false
		}
		*field, rest = v, rest[n:]
	}
	if len(rest) > 0 || deliveries > math.MaxUint32 {
		return receipt{}, false
	}
	r.deliveries = uint32(deliveries)
	return r, r.encode() == text
}
