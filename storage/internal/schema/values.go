package schema

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// ErrValue means that a store does not write such a value.
var ErrValue = errors.New("value is damaged")

// Meta is the state of the log. Every commit writes it, so it always matches the
// committed records.
//
//	version:1  store id:16  last:8  first sequence:8  generation:8  queued:8  trimmed:8
//
// The version is the store's format. Format 1 has no trimmed.
type Meta struct {
	StoreID messaging.MessageID
	// Last is the highest sequence, 0 before the first.
	Last uint64
	// FirstSequence is the lowest sequence that retention has not removed.
	FirstSequence uint64
	// Generation counts how often the store was opened.
	Generation uint64
	// Queued is the number of entries in all queues.
	Queued int64
	// Trimmed is how many sequences from the drain's position on no longer have a
	// message: those below the first sequence, tombstones, and records that a repair put
	// in the place of lost ones. It is [TrimmedUnknown] until the log has counted them.
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

// Encode writes the value to dst, which must have [MetaLen] bytes.
func (m Meta) Encode(dst []byte) {
	dst[0] = MetaVersion
	copy(dst[1:17], m.StoreID[:])
	binary.BigEndian.PutUint64(dst[17:], m.Last)
	binary.BigEndian.PutUint64(dst[25:], m.FirstSequence)
	binary.BigEndian.PutUint64(dst[33:], m.Generation)
	binary.BigEndian.PutUint64(dst[41:], uint64(m.Queued)) //nolint:gosec // a count is not negative
	binary.BigEndian.PutUint64(dst[metaLen1:], m.Trimmed)
}

// DecodeMeta decodes the meta record of either format.
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

// Entry is one message in a user's queue. Its key has the user, the priority and the
// sequence.
//
//	version:1  flags:1  [deliveries:uvarint]  [expires:8]  [due:8]
//
// flags: 1 the receiver's id is a string; 2, 4 and 8: deliveries, expires and due are
// present. Times are Unix milliseconds.
type Entry struct {
	// Quoted is true if the broadcast wrote this receiver as a string.
	Quoted bool
	// Deliveries is how often the message was delivered under a lease.
	Deliveries uint32
	// Expires is when the message is no longer delivered, and Due the earliest time of
	// its delivery; 0 means none.
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

// DecodeEntry decodes the value of an entry.
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

// Depth is a user's number of entries in one index, by priority. Heads are sequences
// below which there is no entry. Reads start at the heads, because on disk they would
// still have to skip the entries removed before.
type Depth struct {
	Counts [messaging.Priorities]uint64
	Heads  [messaging.Priorities]uint64
}

// Total returns the number of entries.
func (t *Depth) Total() uint64 {
	var n uint64
	for _, c := range t.Counts {
		n += c
	}
	return n
}

// QueueState is the depths of a user's queue: of the messages that can be delivered or
// are leased, and of the delayed ones.
//
//	version:1  then for each priority: count:uvarint  head:uvarint
//	           and the same again for the delayed messages, unless all are zero
type QueueState struct {
	Depth

	Delayed Depth
}

const (
	queueStateVersion = 1
	// MaxQueueStateLen bounds the value of a queue state.
	MaxQueueStateLen = 1 + 2*2*messaging.Priorities*binary.MaxVarintLen64
)

// Total returns the number of entries of the queue.
func (u *QueueState) Total() uint64 { return u.Depth.Total() + u.Delayed.Total() }

// On returns the depth of one index.
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

// DecodeQueueState decodes the value of a queue state.
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

// IdempotencyRecord is the result of the first call with an idempotency key.
//
//	version:1  hash:32  expires:8  id:16  sequence:8  recipients:4  count:4
type IdempotencyRecord struct {
	Hash [32]byte
	// Expires is when the key may be used again (Unix ms).
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

// DecodeIdempotencyRecord decodes the value of an idempotency record.
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

// IdempotencyExpiry is when an idempotency key may be removed.
type IdempotencyExpiry struct {
	At    int64
	Scope [16]byte
	Key   string
}

// Fanout is a large broadcast that is still being enqueued for its receivers. Next is the
// number of the next receiver.
//
//	version:1  next:4
type Fanout struct {
	Sequence uint64
	Next     uint32
}

// FanoutLen is the length of the value of a [Fanout].
const FanoutLen = 5

// Encode writes the value to dst, which must have [FanoutLen] bytes.
func (f Fanout) Encode(dst []byte) {
	dst[0] = 1
	binary.BigEndian.PutUint32(dst[1:], f.Next)
}

// DecodeFanout decodes a fan-out from its key and value.
func DecodeFanout(key, src []byte) (Fanout, error) {
	seq, err := ParseNumberKey(key)
	if err != nil || len(src) != FanoutLen || src[0] != 1 {
		return Fanout{}, ErrValue
	}
	return Fanout{Sequence: seq, Next: binary.BigEndian.Uint32(src[1:])}, nil
}
