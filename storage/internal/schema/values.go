package schema

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// ErrValue says that a value is not one that a store writes.
var ErrValue = errors.New("value is damaged")

// Meta says how far the store has come. It is written with every commit, so
// that it is true of exactly the records that stand beside it.
//
//	version:1  store id:16  last:8  first sequence:8  generation:8  queued:8  trimmed:8
//
// The version is that of the format of the store. Format 1 has no trimmed.
type Meta struct {
	StoreID messaging.MessageID
	// Last is the highest sequence there is, 0 before the first.
	Last uint64
	// FirstSequence is the lowest sequence that retention has left.
	FirstSequence uint64
	// Generation counts how often the store was opened.
	Generation uint64
	// Queued is how many entries stand in all queues.
	Queued int64
	// Trimmed is how many sequences from the drain's position on have no message
	// any more: those below the first sequence, tombstones, and what a repair put in the
	// place of lost records. It is [TrimmedUnknown] until the log has counted them.
	Trimmed uint64
}

// TrimmedUnknown is [Meta.Trimmed] after an upgrade or a repair.
const TrimmedUnknown = math.MaxUint64

const (
	// MetaVersion is the first byte of the meta record.
	MetaVersion = layout.Format
	metaLen1    = 1 + 16 + 8*4
	// MetaLen is the length of the meta record.
	MetaLen = metaLen1 + 8
)

// Encode writes the value into dst, which has [MetaLen] bytes.
func (m Meta) Encode(dst []byte) {
	dst[0] = MetaVersion
	copy(dst[1:17], m.StoreID[:])
	binary.BigEndian.PutUint64(dst[17:], m.Last)
	binary.BigEndian.PutUint64(dst[25:], m.FirstSequence)
	binary.BigEndian.PutUint64(dst[33:], m.Generation)
	binary.BigEndian.PutUint64(dst[41:], uint64(m.Queued)) //nolint:gosec // a count is not negative
	binary.BigEndian.PutUint64(dst[metaLen1:], m.Trimmed)
}

// DecodeMeta reads the value of the meta record, in either format.
func DecodeMeta(src []byte) (Meta, error) {
	trimmed := uint64(TrimmedUnknown)
	switch {
	case len(src) == MetaLen && src[0] == MetaVersion:
		trimmed = binary.BigEndian.Uint64(src[metaLen1:])
	case len(src) != metaLen1 || src[0] != layout.Format1:
		return Meta{}, ErrValue
	}
	return Meta{
		StoreID:       messaging.MessageID(src[1:17]),
		Last:          binary.BigEndian.Uint64(src[17:]),
		FirstSequence: binary.BigEndian.Uint64(src[25:]),
		Generation:    binary.BigEndian.Uint64(src[33:]),
		Queued:        int64(binary.BigEndian.Uint64(src[41:])), //nolint:gosec // written from an int64
		Trimmed:       trimmed,
	}, nil
}

// Entry is one message's place in a user's queue. Its key says whose, at which
// priority and which message.
//
//	version:1  flags:1  [deliveries:uvarint]  [expires:8]  [due:8]
//
// flags: 1 the receiver's id is a string, 2 deliveries, 4 expires, 8 due are
// there. Times are Unix milliseconds.
type Entry struct {
	// Quoted says how a broadcast wrote this receiver.
	Quoted bool
	// Deliveries is how often the message was handed out under a lease.
	Deliveries uint32
	// Expires is when it is no longer handed out, and Due when it is to be
	// handed out at the earliest; 0 for neither.
	Expires, Due int64
}

const (
	entryVersion    = 1
	entryQuoted     = 1
	entryDeliveries = 2
	entryExpires    = 4
	entryDue        = 8
	entryFlags      = entryQuoted | entryDeliveries | entryExpires | entryDue
	// MaxEntryLen bounds the value of an entry.
	MaxEntryLen = 2 + binary.MaxVarintLen32 + 8 + 8
)

// Append appends the value of an entry.
func (e Entry) Append(dst []byte) []byte {
	dst = append(dst, entryVersion, 0)
	flags := &dst[len(dst)-1]
	if e.Quoted {
		*flags |= entryQuoted
	}
	if e.Deliveries > 0 {
		*flags |= entryDeliveries
	}
	if e.Expires != 0 {
		*flags |= entryExpires
	}
	if e.Due != 0 {
		*flags |= entryDue
	}
	if e.Deliveries > 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Deliveries))
	}
	if e.Expires != 0 {
		dst = binary.BigEndian.AppendUint64(dst, TimeNumber(e.Expires))
	}
	if e.Due != 0 {
		dst = binary.BigEndian.AppendUint64(dst, TimeNumber(e.Due))
	}
	return dst
}

// DecodeEntry reads the value of an entry.
func DecodeEntry(src []byte) (Entry, error) {
	if len(src) < 2 || src[0] != entryVersion || src[1]&^entryFlags != 0 {
		return Entry{}, ErrValue
	}
	flags, rest := src[1], src[2:]
	e := Entry{Quoted: flags&entryQuoted != 0}
	if flags&entryDeliveries != 0 {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n == 0 || n > math.MaxUint32 {
			return Entry{}, ErrValue
		}
		e.Deliveries, rest = uint32(n), rest[size:]
	}
	for _, field := range []struct {
		flag byte
		into *int64
	}{{entryExpires, &e.Expires}, {entryDue, &e.Due}} {
		if flags&field.flag == 0 {
			continue
		}
		if len(rest) < 8 || binary.BigEndian.Uint64(rest) == 0 {
			return Entry{}, ErrValue
		}
		*field.into, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:] //nolint:gosec // written from an int64
	}
	if len(rest) != 0 {
		return Entry{}, ErrValue
	}
	return e, nil
}

// Depth is how many entries a user has on one index, per priority, and a
// sequence below which there is none. Reading starts at the heads, because what
// was removed before them still has to be walked over on disk.
type Depth struct {
	Counts [messaging.Priorities]uint64
	Heads  [messaging.Priorities]uint64
}

// Total is how many entries there are.
func (t *Depth) Total() uint64 {
	var n uint64
	for _, c := range t.Counts {
		n += c
	}
	return n
}

// QueueState is what a user's queue amounts to: what may be handed out or is under a
// lease, and what is due later.
//
//	version:1  then for each priority: count:uvarint  head:uvarint
//	           and the same again for what is due later, unless there is nothing
type QueueState struct {
	Depth

	Delayed Depth
}

const (
	queueStateVersion = 1
	// MaxQueueStateLen bounds the value of a queue state.
	MaxQueueStateLen = 1 + 2*2*messaging.Priorities*binary.MaxVarintLen64
)

// Total is how many entries the queue has.
func (u *QueueState) Total() uint64 { return u.Depth.Total() + u.Delayed.Total() }

// On returns one index's depth.
func (u *QueueState) On(index Index) *Depth {
	if index == Delayed {
		return &u.Delayed
	}
	return &u.Depth
}

// Append appends the value of a queue state.
func (u *QueueState) Append(dst []byte) []byte {
	dst = append(dst, queueStateVersion)
	dst = u.appendTo(dst)
	if u.Delayed != (Depth{}) {
		dst = u.Delayed.appendTo(dst)
	}
	return dst
}

func (t *Depth) appendTo(dst []byte) []byte {
	for p := range t.Counts {
		dst = binary.AppendUvarint(dst, t.Counts[p])
		dst = binary.AppendUvarint(dst, t.Heads[p])
	}
	return dst
}

// DecodeQueueState reads the value of a queue state.
func DecodeQueueState(src []byte) (QueueState, error) {
	var u QueueState
	if len(src) == 0 || src[0] != queueStateVersion {
		return u, ErrValue
	}
	src = src[1:]
	var ok bool
	if src, ok = u.decode(src); !ok {
		return QueueState{}, ErrValue
	}
	if len(src) > 0 {
		if src, ok = u.Delayed.decode(src); !ok || len(src) > 0 {
			return QueueState{}, ErrValue
		}
	}
	return u, nil
}

func (t *Depth) decode(src []byte) (rest []byte, ok bool) {
	for p := range t.Counts {
		for _, field := range []*uint64{&t.Counts[p], &t.Heads[p]} {
			v, n := binary.Uvarint(src)
			if n <= 0 {
				return nil, false
			}
			*field, src = v, src[n:]
		}
	}
	return src, true
}

// IdempotencyRecord is what was answered to the first call with an idempotency key.
//
//	version:1  hash:32  expires:8  id:16  sequence:8  recipients:4  count:4
type IdempotencyRecord struct {
	Hash [32]byte
	// Expires is when the key may be used again, Unix ms.
	Expires int64
	Receipt messaging.SendResult
}

const (
	idempotencyVersion = 1
	idempotencyLen     = 1 + 32 + 8 + 16 + 8 + 4 + 4
)

// Append appends the value of an idempotency record.
func (o *IdempotencyRecord) Append(dst []byte) []byte {
	dst = append(dst, idempotencyVersion)
	dst = append(dst, o.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, TimeNumber(o.Expires))
	dst = append(dst, o.Receipt.ID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, o.Receipt.Sequence)
	dst = binary.BigEndian.AppendUint32(dst, uint32(o.Receipt.Recipients)) //nolint:gosec // at most a million
	return binary.BigEndian.AppendUint32(dst, uint32(o.Receipt.Count))     //nolint:gosec // at most ten thousand
}

// DecodeIdempotencyRecord reads the value of an idempotency record.
func DecodeIdempotencyRecord(src []byte) (o IdempotencyRecord, err error) {
	if len(src) != idempotencyLen || src[0] != idempotencyVersion {
		return o, ErrValue
	}
	copy(o.Hash[:], src[1:])
	o.Expires = int64(binary.BigEndian.Uint64(src[33:])) //nolint:gosec // written from an int64
	copy(o.Receipt.ID[:], src[41:])
	o.Receipt.Sequence = binary.BigEndian.Uint64(src[57:])
	o.Receipt.Recipients = int(binary.BigEndian.Uint32(src[65:]))
	o.Receipt.Count = int(binary.BigEndian.Uint32(src[69:]))
	return o, nil
}

// IdempotencyExpiry says when an idempotency key may go.
type IdempotencyExpiry struct {
	At    int64
	Scope [16]byte
	Key   string
}

// Fanout is a large broadcast whose receivers are being entered into their
// queues: the next receiver's number is Next.
//
//	version:1  next:4
type Fanout struct {
	Sequence uint64
	Next     uint32
}

// FanoutLen is the length of the value of a [Fanout].
const FanoutLen = 5

// Encode writes the value into dst, which has [FanoutLen] bytes.
func (f Fanout) Encode(dst []byte) {
	dst[0] = 1
	binary.BigEndian.PutUint32(dst[1:], f.Next)
}

// DecodeFanout reads a fan-out from its key and its value.
func DecodeFanout(key, src []byte) (Fanout, error) {
	seq, err := ParseNumberKey(key)
	if err != nil || len(src) != FanoutLen || src[0] != 1 {
		return Fanout{}, ErrValue
	}
	return Fanout{Sequence: seq, Next: binary.BigEndian.Uint32(src[1:])}, nil
}
