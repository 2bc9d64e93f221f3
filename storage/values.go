package storage

import (
	"encoding/binary"
	"errors"

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
//	version:1  flags:1 (1: the receiver's id is a string)
type Entry struct {
	// Quoted says how a broadcast wrote this receiver.
	Quoted bool
}

const (
	entryVersion = 1
	entryLen     = 2
	entryQuoted  = 1
)

func (e Entry) encode(dst []byte) {
	dst[0], dst[1] = entryVersion, 0
	if e.Quoted {
		dst[1] = entryQuoted
	}
}

func decodeEntry(src []byte) (Entry, error) {
	if len(src) != entryLen || src[0] != entryVersion || src[1]&^entryQuoted != 0 {
		return Entry{}, errValue
	}
	return Entry{Quoted: src[1] == entryQuoted}, nil
}

// User is what a user's queue amounts to, per priority: how many entries, and
// a sequence below which there is none. Reading starts at the heads, because
// what was removed before them still has to be walked over on disk.
//
//	version:1  then for each priority: count:uvarint  head:uvarint
type User struct {
	Counts [messaging.Priorities]uint64
	Heads  [messaging.Priorities]uint64
}

const (
	userVersion = 1
	maxUserLen  = 1 + 2*messaging.Priorities*binary.MaxVarintLen64
)

// Total is how many entries the queue has.
func (u *User) Total() uint64 {
	var n uint64
	for _, c := range u.Counts {
		n += c
	}
	return n
}

func (u *User) append(dst []byte) []byte {
	dst = append(dst, userVersion)
	for p := range u.Counts {
		dst = binary.AppendUvarint(dst, u.Counts[p])
		dst = binary.AppendUvarint(dst, u.Heads[p])
	}
	return dst
}

func decodeUser(src []byte) (User, error) {
	var u User
	if len(src) == 0 || src[0] != userVersion {
		return u, errValue
	}
	src = src[1:]
	for p := range u.Counts {
		for _, field := range []*uint64{&u.Counts[p], &u.Heads[p]} {
			v, n := binary.Uvarint(src)
			if n <= 0 {
				return User{}, errValue
			}
			*field, src = v, src[n:]
		}
	}
	if len(src) != 0 {
		return User{}, errValue
	}
	return u, nil
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
