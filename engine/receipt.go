package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/stayafrica/messaging"
)

// receipt identifies one delivery of one message to one user in one run of the service. A
// reader acknowledges with it:
//
//	bootID:8  user:4 (of SHA-256)  priority:1  sequence:uvarint  deliveries:uvarint  lease:uvarint
//
// It is encoded in URL-safe base64 without padding. The lease has its own number because
// the delivery count is not unique: it starts again when a message is redriven, and it
// does not change when a delivery did not arrive.
type receipt struct {
	bootID     uint64
	user       uint32
	priority   messaging.Priority
	sequence   uint64
	deliveries uint32
	lease      uint64
}

const receiptFixed = 8 + 4 + 1

// newBootID returns a random number that distinguishes this run's receipts. No receipt may
// begin with a hyphen, because a command line would read it as a flag.
func newBootID() uint64 {
	const hyphen = 62 // its base64 digit
	for {
		if id := rand.Uint64(); id>>(64-6) != hyphen { //nolint:gosec // it is no secret
			return id
		}
	}
}

func userTag(user messaging.UserID) uint32 {
	sum := sha256.Sum256([]byte(user))
	return binary.BigEndian.Uint32(sum[:])
}

func (r receipt) encode() string {
	dst := binary.BigEndian.AppendUint64(make([]byte, 0, receiptFixed+3*binary.MaxVarintLen64), r.bootID)
	dst = binary.BigEndian.AppendUint32(dst, r.user)
	dst = append(dst, byte(r.priority))
	dst = binary.AppendUvarint(dst, r.sequence)
	dst = binary.AppendUvarint(dst, uint64(r.deliveries))
	dst = binary.AppendUvarint(dst, r.lease)
	return base64.RawURLEncoding.EncodeToString(dst)
}

// decodeReceipt decodes a receipt; ok is false for text that encode does not produce.
func decodeReceipt(text string) (r receipt, ok bool) {
	const longest = 64
	if len(text) > longest {
		return receipt{}, false
	}
	src, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(src) < receiptFixed || src[12] >= messaging.Priorities {
		return receipt{}, false
	}
	r = receipt{bootID: binary.BigEndian.Uint64(src), user: binary.BigEndian.Uint32(src[8:]), priority: messaging.Priority(src[12])}
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
