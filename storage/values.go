package storage

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/stayafrica/messaging"
)

var errValue = errors.New("value is damaged")

// Meta says how far the store has come. It is written with every commit, so
// that it is true of exactly the records that stand beside it.
//
//	version:1  store id:16  last:8  floor:8  generation:8  queued:8
type Meta struct {
	StoreID messaging.MessageID
	// Last is the highest sequence there is, 0 before the first.
	Last uint64
	// Floor is the lowest sequence that retention has left.
	Floor uint64
	// Generation counts how often the store was opened.
	Generation uint64
	// Queued is how many entries stand in all queues.
	Queued int64
}

const (
	metaVersion = 1
	metaLen     = 1 + 16 + 8*4
)

func (m Meta) encode(dst []byte) {
	dst[0] = metaVersion
	copy(dst[1:17], m.StoreID[:])
	binary.BigEndian.PutUint64(dst[17:], m.Last)
	binary.BigEndian.PutUint64(dst[25:], m.Floor)
	binary.BigEndian.PutUint64(dst[33:], m.Generation)
	binary.BigEndian.PutUint64(dst[41:], uint64(m.Queued)) //nolint:gosec // a count is not negative
}

func decodeMeta(src []byte) (Meta, error) {
	if len(src) != metaLen || src[0] != metaVersion {
		return Meta{}, errValue
	}
	return Meta{
		StoreID:    messaging.MessageID(src[1:17]),
		Last:       binary.BigEndian.Uint64(src[17:]),
		Floor:      binary.BigEndian.Uint64(src[25:]),
		Generation: binary.BigEndian.Uint64(src[33:]),
		Queued:     int64(binary.BigEndian.Uint64(src[41:])), //nolint:gosec // written from an int64
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
	maxEntryLen     = 2 + binary.MaxVarintLen32 + 8 + 8
)

func (e Entry) append(dst []byte) []byte {
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
		dst = binary.BigEndian.AppendUint64(dst, timeNumber(e.Expires))
	}
	if e.Due != 0 {
		dst = binary.BigEndian.AppendUint64(dst, timeNumber(e.Due))
	}
	return dst
}

func decodeEntry(src []byte) (Entry, error) {
	if len(src) < 2 || src[0] != entryVersion || src[1]&^entryFlags != 0 {
		return Entry{}, errValue
	}
	flags, rest := src[1], src[2:]
	e := Entry{Quoted: flags&entryQuoted != 0}
	if flags&entryDeliveries != 0 {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n == 0 || n > math.MaxUint32 {
			return Entry{}, errValue
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
			return Entry{}, errValue
		}
		*field.into, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:] //nolint:gosec // written from an int64
	}
	if len(rest) != 0 {
		return Entry{}, errValue
	}
	return e, nil
}

// Tally is how many entries a user has on one shelf, per priority, and a
// sequence below which there is none. Reading starts at the heads, because what
// was removed before them still has to be walked over on disk.
type Tally struct {
	Counts [messaging.Priorities]uint64
	Heads  [messaging.Priorities]uint64
}

// Total is how many entries there are.
func (t *Tally) Total() uint64 {
	var n uint64
	for _, c := range t.Counts {
		n += c
	}
	return n
}

// User is what a user's queue amounts to: what may be handed out or is under a
// lease, and what is due later.
//
//	version:1  then for each priority: count:uvarint  head:uvarint
//	           and the same again for what is due later, unless there is nothing
type User struct {
	Tally

	Delayed Tally
}

const (
	userVersion = 1
	maxUserLen  = 1 + 2*2*messaging.Priorities*binary.MaxVarintLen64
)

// Total is how many entries the queue has.
func (u *User) Total() uint64 { return u.Tally.Total() + u.Delayed.Total() }

// On gives one shelf's tally.
func (u *User) On(shelf Shelf) *Tally {
	if shelf == Delayed {
		return &u.Delayed
	}
	return &u.Tally
}

func (u *User) append(dst []byte) []byte {
	dst = append(dst, userVersion)
	dst = u.Tally.append(dst)
	if u.Delayed != (Tally{}) {
		dst = u.Delayed.append(dst)
	}
	return dst
}

func (t *Tally) append(dst []byte) []byte {
	for p := range t.Counts {
		dst = binary.AppendUvarint(dst, t.Counts[p])
		dst = binary.AppendUvarint(dst, t.Heads[p])
	}
	return dst
}

func decodeUser(src []byte) (User, error) {
	var u User
	if len(src) == 0 || src[0] != userVersion {
		return u, errValue
	}
	src = src[1:]
	var ok bool
	if src, ok = u.decode(src); !ok {
		return User{}, errValue
	}
	if len(src) > 0 {
		if src, ok = u.Delayed.decode(src); !ok || len(src) > 0 {
			return User{}, errValue
		}
	}
	return u, nil
}

func (t *Tally) decode(src []byte) (rest []byte, ok bool) {
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

// OnceRecord is what was answered to the first call with an idempotency key.
//
//	version:1  hash:32  expires:8  id:16  sequence:8  recipients:4  count:4
type OnceRecord struct {
	Hash [32]byte
	// Expires is when the key may be used anew, Unix ms.
	Expires int64
	Receipt messaging.Receipt
}

const (
	onceVersion = 1
	onceLen     = 1 + 32 + 8 + 16 + 8 + 4 + 4
)

func (o *OnceRecord) append(dst []byte) []byte {
	dst = append(dst, onceVersion)
	dst = append(dst, o.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, timeNumber(o.Expires))
	dst = append(dst, o.Receipt.ID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, o.Receipt.Sequence)
	dst = binary.BigEndian.AppendUint32(dst, uint32(o.Receipt.Recipients)) //nolint:gosec // at most a million
	return binary.BigEndian.AppendUint32(dst, uint32(o.Receipt.Count))     //nolint:gosec // at most ten thousand
}

func decodeOnce(src []byte) (o OnceRecord, err error) {
	if len(src) != onceLen || src[0] != onceVersion {
		return o, errValue
	}
	copy(o.Hash[:], src[1:])
	o.Expires = int64(binary.BigEndian.Uint64(src[33:])) //nolint:gosec // written from an int64
	copy(o.Receipt.ID[:], src[41:])
	o.Receipt.Sequence = binary.BigEndian.Uint64(src[57:])
	o.Receipt.Recipients = int(binary.BigEndian.Uint32(src[65:]))
	o.Receipt.Count = int(binary.BigEndian.Uint32(src[69:]))
	return o, nil
}

// OnceEnd says when an idempotency key may go.
type OnceEnd struct {
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

const fanoutLen = 5

func (f Fanout) encode(dst []byte) {
	dst[0] = 1
	binary.BigEndian.PutUint32(dst[1:], f.Next)
}

func decodeFanout(key, src []byte) (Fanout, error) {
	seq, err := parseNumberKey(key)
	if err != nil || len(src) != fanoutLen || src[0] != 1 {
		return Fanout{}, errValue
	}
	return Fanout{Sequence: seq, Next: binary.BigEndian.Uint32(src[1:])}, nil
}
