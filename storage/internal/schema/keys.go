package schema

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"

	"github.com/stayafrica/messaging"
)

// The key space. A key begins with one byte for its table. Integers are big-endian, so
// that keys sort by number. A user id follows its length, so that no user's keys are a
// prefix of another's.
//
//	m                                 meta: last sequence, first sequence, generation, store id, queued
//	l  seq:8                          record of the log
//	b  broadcast id:16  chunk:4       receivers of a broadcast, 4096 a chunk
//	s  broadcast id:16                staged receivers that are not committed yet
//	f  seq:8                          unfinished fan-out and its progress
//	q  len:1 user  priority:1  seq:8  queue entry
//	w  len:1 user  priority:1  seq:8  delayed queue entry
//	c  len:1 user                     unfinished clear: no entry up to its sequence counts
//	u  len:1 user                     counts and heads of a user's queue
//	d  time:8  seq:8  len:1 user      when an entry of w is due (Unix ms)
//	e  time:8  seq:8  len:1 user      when an entry of q or w expires
//	t  time:8                         sequence at that time (Unix ms), sparse
//	k  scope:16  idempotency key      result of the first call with the key
//	x  time:8  scope:16  key          when an entry of k may be removed
//	o  kind:1  seq:8                  message of dead letters, one for each message and kind
//	g  kind:1  seq:8  reason:8        dead letter: a message's recipients with one reason
//	r  kind:1  reason:8  seq:8  len:1 user   recipient of a dead letter
//	i  kind:1  message id:16          dead letter with this id
//	n  kind:1                         number of dead letters
//	p                                 drain position
//	j  job id                         job
//
// A kind is 1 (refused) or 2 (undeliverable), a reason its hash.
const (
	TableMeta              = 'm'
	TableLog               = 'l'
	TableReceivers         = 'b'
	TableStage             = 's'
	TableFanout            = 'f'
	TableQueue             = 'q'
	TableDelayed           = 'w'
	TableClear             = 'c'
	tableDue               = 'd'
	tableExpiry            = 'e'
	TableIdempotency       = 'k'
	TableIdempotencyExpiry = 'x'
	TableUser              = 'u'
	TableTime              = 't'

	TableLetterMessage   = 'o'
	TableLetter          = 'g'
	TableLetterRecipient = 'r'
	TableLetterID        = 'i'
	TableLetterCount     = 'n'
	TablePosition        = 'p'
	TableJob             = 'j'
)

// ErrKey means that a store does not write such a key.
var ErrKey = errors.New("key is damaged")

// NumberKey returns a key of a table whose keys are numbers.
func NumberKey(table byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{table}, n)
}

// ParseNumberKey returns the number of a key of [NumberKey].
func ParseNumberKey(key []byte) (uint64, error) {
	if len(key) != 9 {
		return 0, ErrKey
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// IDKey returns a key that consists of a table and a message id.
func IDKey(table byte, id messaging.MessageID) []byte {
	return append([]byte{table}, id[:]...)
}

// ReceiversKey returns the key of one chunk of a broadcast's receivers.
func ReceiversKey(id messaging.MessageID, chunk uint32) []byte {
	return binary.BigEndian.AppendUint32(IDKey(TableReceivers, id), chunk)
}

// UserKey returns the key of a user's queue state.
func UserKey(user messaging.UserID) []byte {
	return AppendUserID(make([]byte, 0, 2+len(user)), TableUser, user)
}

// AppendUserID appends the prefix of a user's keys in a table.
func AppendUserID(dst []byte, table byte, user messaging.UserID) []byte {
	dst = append(dst, table, byte(len(user))) //nolint:gosec // at most 64
	return append(dst, user...)
}

// Index is one of the two tables of a queue's entries.
type Index byte

// An entry is in the index from which messages are delivered, or in the index of messages
// that are not due yet.
const (
	Queued  Index = TableQueue
	Delayed Index = TableDelayed
)

// EntryKeyLen returns the length of a user's entry keys.
func EntryKeyLen(user messaging.UserID) int { return 2 + len(user) + 1 + 8 }

// AppendEntryKey appends the key of an entry.
func AppendEntryKey(dst []byte, index Index, user messaging.UserID, p messaging.Priority, seq uint64) []byte {
	dst = AppendUserID(dst, byte(index), user)
	dst = append(dst, byte(p))
	return binary.BigEndian.AppendUint64(dst, seq)
}

// ParseEntryKey parses a key of table q or w.
func ParseEntryKey(key []byte) (user messaging.UserID, p messaging.Priority, seq uint64, err error) {
	if len(key) < 2 || (key[0] != TableQueue && key[0] != TableDelayed) || len(key) != 2+int(key[1])+1+8 {
		return "", 0, 0, ErrKey
	}
	rest := key[2+int(key[1]):]
	if rest[0] >= messaging.Priorities {
		return "", 0, 0, ErrKey
	}
	return messaging.UserID(key[2 : 2+int(key[1])]), messaging.Priority(rest[0]), binary.BigEndian.Uint64(rest[1:]), nil
}

// Event is what happens to an entry at a set time.
type Event byte

// Events of an entry: it becomes due, or it expires.
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

// AppendTimerKey appends the key of a timer.
func AppendTimerKey(dst []byte, what Event, t Timer) []byte {
	dst = AppendNumberKey(dst, byte(what), TimeNumber(t.At))
	dst = binary.BigEndian.AppendUint64(dst, t.Sequence)
	dst = append(dst, byte(len(t.User))) //nolint:gosec // at most 64
	return append(dst, t.User...)
}

// ParseTimerKey parses the key of a timer.
func ParseTimerKey(key []byte) (Timer, error) {
	const fixed = 1 + 8 + 8 + 1
	if len(key) < fixed || len(key) != fixed+int(key[fixed-1]) {
		return Timer{}, ErrKey
	}
	return Timer{
		At:       int64(binary.BigEndian.Uint64(key[1:])), //nolint:gosec // written from an int64
		Sequence: binary.BigEndian.Uint64(key[9:]),
		User:     messaging.UserID(key[fixed:]),
	}, nil
}

// AppendIdempotencyKey appends the key of an idempotency record.
func AppendIdempotencyKey(dst []byte, scope [16]byte, key string) []byte {
	dst = append(append(dst, TableIdempotency), scope[:]...)
	return append(dst, key...)
}

// IdempotencyExpiryKey returns the key that records when an idempotency record may be
// removed.
func IdempotencyExpiryKey(at int64, scope [16]byte, key string) []byte {
	dst := append(NumberKey(TableIdempotencyExpiry, TimeNumber(at)), scope[:]...)
	return append(dst, key...)
}

// ParseIdempotencyExpiryKey parses a key of [IdempotencyExpiryKey].
func ParseIdempotencyExpiryKey(key []byte) (IdempotencyExpiry, error) {
	const fixed = 1 + 8 + 16
	if len(key) <= fixed || len(key) > fixed+messaging.MaxIdempotencyKey {
		return IdempotencyExpiry{}, ErrKey
	}
	return IdempotencyExpiry{
		At:    int64(binary.BigEndian.Uint64(key[1:])), //nolint:gosec // written from an int64
		Scope: [16]byte(key[9:25]), Key: string(key[fixed:]),
	}, nil
}

// PrefixEnd returns the first key after all keys that begin with prefix.
func PrefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// AppendNumberKey appends a key of a table whose keys are numbers.
func AppendNumberKey(dst []byte, table byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, table), n)
}

// TimeNumber returns a time as it is in keys. A time before 1970 counts as 1970.
func TimeNumber(ms int64) uint64 {
	return uint64(max(ms, 0))
}

// CutUserID returns the user of a key of tables q, w, c and u, and the rest of the key.
func CutUserID(key []byte) (user, rest []byte, ok bool) {
	if len(key) < 2 || len(key) < 2+int(key[1]) {
		return nil, nil, false
	}
	end := 2 + int(key[1])
	return bytes.Clone(key[2:end]), key[end:], true
}

// ParseReceiversKey parses a key of [ReceiversKey].
func ParseReceiversKey(key []byte) (id messaging.MessageID, chunk uint32, ok bool) {
	if len(key) != 1+16+4 {
		return id, 0, false
	}
	return messaging.MessageID(key[1:17]), binary.BigEndian.Uint32(key[17:]), true
}

// CompareUsers compares users in the order of their keys.
func CompareUsers(a, b messaging.UserID) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// LetterTables are the tables that format 1 lacks.
var LetterTables = [...]byte{
	TableLetterMessage, TableLetter, TableLetterRecipient, TableLetterID, TableLetterCount, TablePosition, TableJob,
}
