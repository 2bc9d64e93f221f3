package engine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"math"
	"sync"

	"github.com/stayafrica/messaging"
)

// receipt identifies one delivery of one message to one user in one run of the service. A
// reader acknowledges with it:
//
//	bootID:8  mac:12  priority:1  sequence:uvarint  deliveries:uvarint  lease:uvarint
//
// It is encoded in URL-safe base64 without padding. The lease has its own number because
// the delivery count is not unique: it starts again when a message is redriven, and it
// does not change when a delivery did not arrive.
//
// mac is the first 96 bits of HMAC-SHA256 (RFC 2104) over what follows it and the user,
// under a key that is random in each run. So a reader cannot make the receipt of one
// message from that of another, nor use it for another user. bootID is not secret: it
// distinguishes a receipt of another run, which has expired, from one that is not ours.
type receipt struct {
	priority   messaging.Priority
	sequence   uint64
	deliveries uint32
	lease      uint64
}

const (
	receiptBoot  = 8
	receiptMAC   = 12
	receiptFixed = receiptBoot + receiptMAC + 1
	// receiptEnd is the largest number of bytes from the priority on.
	receiptEnd = 1 + 2*binary.MaxVarintLen64 + binary.MaxVarintLen32
)

// receiptKey makes and reads the receipts of this run. It is safe for concurrent use.
type receiptKey struct {
	boot [receiptBoot]byte
	macs *sync.Pool // of hash.Hash with the key
}

func newReceiptKey() receiptKey {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it does not fail
	k := receiptKey{macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
	// No receipt may begin with a hyphen, because a command line would read it as a flag.
	const hyphen = 62 // its base64 digit
	for {
		_, _ = rand.Read(k.boot[:])
		if k.boot[0]>>2 != hyphen {
			return k
		}
	}
}

// encode returns the text of a receipt of a user.
func (k *receiptKey) encode(user messaging.UserID, r receipt) string {
	var buf [receiptBoot + receiptMAC + receiptEnd]byte
	end := append(buf[:receiptBoot+receiptMAC], byte(r.priority))
	end = binary.AppendUvarint(end, r.sequence)
	end = binary.AppendUvarint(end, uint64(r.deliveries))
	end = binary.AppendUvarint(end, r.lease)
	copy(buf[:], k.boot[:])
	mac := k.mac(user, end[receiptBoot+receiptMAC:])
	copy(buf[receiptBoot:], mac[:receiptMAC])
	return base64.RawURLEncoding.EncodeToString(end)
}

// mac returns the MAC of the end of a receipt, from its priority on, and a user. The end
// describes its own length, so the two cannot be confused.
func (k *receiptKey) mac(user messaging.UserID, end []byte) (sum [sha256.Size]byte) {
	h, _ := k.macs.Get().(hash.Hash)
	defer k.macs.Put(h)
	h.Reset()
	_, _ = h.Write(end) // a hash does not fail
	_, _ = h.Write([]byte(user))
	h.Sum(sum[:0])
	return sum
}

// decode reads a receipt of a user. The outcome is empty for a receipt of this run. It is
// expired for one of another run, and unknown for text that is no receipt of the user.
func (k *receiptKey) decode(user messaging.UserID, text string) (r receipt, outcome messaging.Outcome) {
	const longest = (receiptBoot + receiptMAC + receiptEnd) * 4 / 3
	if len(text) > longest+1 {
		return receipt{}, messaging.Unknown
	}
	src, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(src) < receiptFixed {
		return receipt{}, messaging.Unknown
	}
	r, ok := parseReceipt(src[receiptBoot+receiptMAC:])
	if !ok {
		return receipt{}, messaging.Unknown
	}
	if [receiptBoot]byte(src) != k.boot {
		return r, messaging.Expired
	}
	mac := k.mac(user, src[receiptBoot+receiptMAC:])
	if !hmac.Equal(mac[:receiptMAC], src[receiptBoot:receiptBoot+receiptMAC]) {
		return receipt{}, messaging.Unknown
	}
	return r, ""
}

// parseReceipt parses a receipt from its priority on.
func parseReceipt(end []byte) (r receipt, ok bool) {
	if end[0] >= messaging.Priorities {
		return receipt{}, false
	}
	r.priority = messaging.Priority(end[0])
	rest := end[1:]
	var deliveries uint64
	for _, field := range []*uint64{&r.sequence, &deliveries, &r.lease} {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return receipt{}, false
		}
		*field, rest = v, rest[n:]
	}
	r.deliveries = uint32(deliveries)
	return r, len(rest) == 0 && deliveries <= math.MaxUint32
}
