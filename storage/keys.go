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
//	u  len:1 user                     counts and heads of a user's queue
//	t  time:8                         sequence at that time (Unix ms), sparse
const (
	tableMeta      = 'm'
	tableLog       = 'l'
	tableReceivers = 'b'
	tableStage     = 's'
	tableFanout    = 'f'
	tableQueue     = 'q'
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

func entryKeyLen(user messaging.UserID) int { return 2 + len(user) + 1 + 8 }

func appendEntryKey(dst []byte, user messaging.UserID, p messaging.Priority, seq uint64) []byte {
	dst = appendUser(dst, tableQueue, user)
	dst = append(dst, byte(p))
	return binary.BigEndian.AppendUint64(dst, seq)
}

// parseEntryKey reads the parts of a key of table q.
func parseEntryKey(key []byte) (user messaging.UserID, p messaging.Priority, seq uint64, err error) {
	if len(key) < 2 || key[0] != tableQueue || len(key) != 2+int(key[1])+1+8 {
		return "", 0, 0, errKey
	}
	rest := key[2+int(key[1]):]
	if rest[0] >= messaging.Priorities {
		return "", 0, 0, errKey
	}
	return messaging.UserID(key[2 : 2+int(key[1])]), messaging.Priority(rest[0]), binary.BigEndian.Uint64(rest[1:]), nil
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
