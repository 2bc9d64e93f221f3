package storage

import (
	"encoding/binary"
	"errors"

	"github.com/stayafrica/messaging"
)

// The key space. One prefix byte a table; integers are big-endian, so that
// bytes order as numbers do; a user id stands behind its length, so that no
// user's keys are a prefix of another's.
//
//	m                                 meta: last sequence, floor, generation, store id, queued
//	l  seq:8                          record of the log
//	b  broadcast id:16  chunk:4       receivers of a broadcast, 4096 a chunk
//	s  broadcast id:16                receivers that are staged and not yet committed
//	f  seq:8                          fan-out that is not finished, and its position
//	q  len:1 user  priority:1  seq:8  queue entry
//	w  len:1 user  priority:1  seq:8  queue entry that is due later
//	u  len:1 user                     counts and heads of a user's queue
//	d  time:8  seq:8  len:1 user      when an entry of w is due (Unix ms)
//	e  time:8  seq:8  len:1 user      when an entry of q or w expires
//	t  time:8                         sequence at that time (Unix ms), sparse
//	k  scope:16  idempotency key      what was answered to the first call with it
//	x  time:8  scope:16  key          when an entry of k may go
const (
	tableMeta      = 'm'
	tableLog       = 'l'
	tableReceivers = 'b'
	tableStage     = 's'
	tableFanout    = 'f'
	tableQueue     = 'q'
	tableDelayed   = 'w'
	tableDue       = 'd'
	tableExpiry    = 'e'
	tableOnce      = 'k'
	tableOnceEnd   = 'x'
	tableUser      = 'u'
	tableTime      = 't'
)

var errKey = errors.New("key is damaged")

func numberKey(table byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{table}, n)
}

func parseNumberKey(key []byte) (uint64, error) {
	if len(key) != 9 {
		return 0, errKey
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

func idKey(table byte, id messaging.MessageID) []byte {
	return append([]byte{table}, id[:]...)
}

func receiversKey(id messaging.MessageID, chunk uint32) []byte {
	return binary.BigEndian.AppendUint32(idKey(tableReceivers, id), chunk)
}

func userKey(user messaging.UserID) []byte {
	return appendUser(make([]byte, 0, 2+len(user)), tableUser, user)
}

func appendUser(dst []byte, table byte, user messaging.UserID) []byte {
	dst = append(dst, table, byte(len(user))) //nolint:gosec // at most 64
	return append(dst, user...)
}

// Shelf says in which of its two tables a queue's entry stands.
type Shelf byte

// An entry stands on the shelf from which messages are handed out, or on the
// one of those that are due later.
const (
	Queued  Shelf = tableQueue
	Delayed Shelf = tableDelayed
)

func entryKeyLen(user messaging.UserID) int { return 2 + len(user) + 1 + 8 }

func appendEntryKey(dst []byte, shelf Shelf, user messaging.UserID, p messaging.Priority, seq uint64) []byte {
	dst = appendUser(dst, byte(shelf), user)
	dst = append(dst, byte(p))
	return binary.BigEndian.AppendUint64(dst, seq)
}

// parseEntryKey reads the parts of a key of table q or w.
func parseEntryKey(key []byte) (user messaging.UserID, p messaging.Priority, seq uint64, err error) {
	if len(key) < 2 || (key[0] != tableQueue && key[0] != tableDelayed) || len(key) != 2+int(key[1])+1+8 {
		return "", 0, 0, errKey
	}
	rest := key[2+int(key[1]):]
	if rest[0] >= messaging.Priorities {
		return "", 0, 0, errKey
	}
	return messaging.UserID(key[2 : 2+int(key[1])]), messaging.Priority(rest[0]), binary.BigEndian.Uint64(rest[1:]), nil
}

// Event says what happens to an entry at its time.
type Event byte

// An entry becomes due, or expires.
const (
	Due    Event = tableDue
	Expiry Event = tableExpiry
)

// Timer is an event of one entry, at a time in Unix milliseconds.
type Timer struct {
	At       int64
	Sequence uint64
	User     messaging.UserID
}

func appendTimerKey(dst []byte, what Event, t Timer) []byte {
	dst = appendNumberKey(dst, byte(what), timeNumber(t.At))
	dst = binary.BigEndian.AppendUint64(dst, t.Sequence)
	dst = append(dst, byte(len(t.User))) //nolint:gosec // at most 64
	return append(dst, t.User...)
}

func parseTimerKey(key []byte) (Timer, error) {
	const fixed = 1 + 8 + 8 + 1
	if len(key) < fixed || len(key) != fixed+int(key[fixed-1]) {
		return Timer{}, errKey
	}
	return Timer{
		At:       int64(binary.BigEndian.Uint64(key[1:])), //nolint:gosec // written from an int64
		Sequence: binary.BigEndian.Uint64(key[9:]),
		User:     messaging.UserID(key[fixed:]),
	}, nil
}

func appendOnceKey(dst []byte, scope [16]byte, key string) []byte {
	dst = append(append(dst, tableOnce), scope[:]...)
	return append(dst, key...)
}

func onceEndKey(at int64, scope [16]byte, key string) []byte {
	dst := append(numberKey(tableOnceEnd, timeNumber(at)), scope[:]...)
	return append(dst, key...)
}

func parseOnceEndKey(key []byte) (OnceEnd, error) {
	const fixed = 1 + 8 + 16
	if len(key) <= fixed || len(key) > fixed+messaging.MaxIdempotencyKey {
		return OnceEnd{}, errKey
	}
	return OnceEnd{
		At:    int64(binary.BigEndian.Uint64(key[1:])), //nolint:gosec // written from an int64
		Scope: [16]byte(key[9:25]), Key: string(key[fixed:]),
	}, nil
}

// prefixEnd gives the first key behind all those that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func appendNumberKey(dst []byte, table byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, table), n)
}

func putUint64(dst []byte, n uint64) { binary.BigEndian.PutUint64(dst, n) }

// timeNumber gives a time's place among the keys; one before 1970 has none
// and counts as 1970.
func timeNumber(ms int64) uint64 {
	return uint64(max(ms, 0))
}
