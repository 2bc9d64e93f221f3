package wal

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// Record is the log's form of a send or a broadcast. Its Message has no position and, for
// a broadcast, no receiver: [Record.Single] and [Record.CopyFor] return the messages for
// the receivers.
type Record struct {
	Message messaging.Message
	// Recipients is how many receivers a broadcast has; 0 for a single message.
	Recipients uint32
	// Trimmed marks a tombstone: the message was removed before its retention ended, to
	// free space. The tombstone has the message's id and creation time. It keeps the log
	// without gaps.
	Trimmed bool
	// Lost marks a record that was corrupt and that a repair replaced, so that the log has
	// no gap. It counts as settled, and no receiver gets it.
	Lost bool
}

// IsBroadcast reports whether the record is one message for many receivers.
func (r *Record) IsBroadcast() bool { return r.Recipients > 0 }

// Single returns the message of a record that is not a broadcast.
func (r *Record) Single(seq uint64) messaging.Message {
	m := r.Message
	m.Position = messaging.Position{Sequence: seq}
	return m
}

// CopyFor returns the copy of a broadcast for one receiver.
func (r *Record) CopyFor(seq uint64, number uint32, receiver messaging.Receiver) messaging.Message {
	m := r.Message
	m.Position = messaging.Position{Sequence: seq}
	return m.CopyTo(number, receiver)
}

// The record on disk:
//
//	version:1  flags:1  priority:1  defaults:1  time:8 (Unix ms)  id:16  recipients:4
//	[due:8]  [expires:8]  len:1 conversation   len:1 receiver   body (to the end, as received)
//
// Flags:
//
//	 1  the drain skips the message ("persist": false)
//	 2  due (Unix ms) is present
//	 4  expires (Unix ms) is present
//	 8  the record was lost: it has neither receiver nor message
//	16  the message was trimmed: only time and id are left, followed by the two
//	    lengths, which are 0
const (
	recordVersion = 1
	flagNoPersist = 1
	flagDue       = 2
	flagExpires   = 4
	flagLost      = 8
	flagTrimmed   = 16
	recordFlags   = flagNoPersist | flagDue | flagExpires | flagLost | flagTrimmed
	recordFixed   = 4 + 8 + 16 + 4
	maxPriority   = byte(messaging.Priorities - 1)
	allDefaults   = byte(messaging.DefaultType | messaging.DefaultPriority | messaging.DefaultMetadata)
)

var errRecord = errors.New("record is corrupt")

func (r *Record) size() int {
	n := recordFixed + 2 + len(r.Message.Conversation) + len(r.Message.Receiver.User) + len(r.Message.Body)
	for _, at := range r.times() {
		if !at.IsZero() {
			n += 8
		}
	}
	return n
}

// times returns the record's optional times, in the order of their flags.
func (r *Record) times() [2]time.Time {
	return [2]time.Time{r.Message.DeliverAt, r.Message.ExpiresAt}
}

// encode writes the record into dst, whose length is r.size().
func (r *Record) encode(dst []byte) {
	m := &r.Message
	dst[0], dst[1] = recordVersion, 0
	if m.NoPersist {
		dst[1] = flagNoPersist
	}
	if r.Trimmed {
		dst[1] |= flagTrimmed
	}
	if r.Lost {
		dst[1] |= flagLost
	}
	dst[2], dst[3] = byte(m.Priority), byte(m.Defaulted)
	binary.BigEndian.PutUint64(dst[4:], uint64(m.CreatedAt.UnixMilli()))
	copy(dst[12:], m.ID[:])
	binary.BigEndian.PutUint32(dst[28:], r.Recipients)
	rest := dst[recordFixed:]
	for i, at := range r.times() {
		if !at.IsZero() {
			dst[1] |= flagDue << i
			binary.BigEndian.PutUint64(rest, uint64(at.UnixMilli()))
			rest = rest[8:]
		}
	}
	for _, id := range []string{m.Conversation, string(m.Receiver.User)} {
		rest[0] = byte(len(id)) //nolint:gosec // at most 64
		copy(rest[1:], id)
		rest = rest[1+len(id):]
	}
	copy(rest, m.Body)
}

// DecodeRecord decodes a record. The message's body aliases src. For bytes that encode
// does not produce it returns an error; it never panics.
func DecodeRecord(src []byte) (Record, error) {
	if len(src) < recordFixed+2 || src[0] != recordVersion || src[1]&^recordFlags != 0 ||
		src[2] > maxPriority || src[3]&^allDefaults != 0 {
		return Record{}, errRecord
	}
	r := Record{Recipients: binary.BigEndian.Uint32(src[28:]), Lost: src[1]&flagLost != 0}
	m := &r.Message
	m.NoPersist = src[1]&flagNoPersist != 0
	m.Priority, m.Defaulted = messaging.Priority(src[2]), messaging.DefaultedFields(src[3])
	m.CreatedAt = time.UnixMilli(int64(binary.BigEndian.Uint64(src[4:]))) //nolint:gosec // the bits are those that encode converted
	copy(m.ID[:], src[12:28])
	m.Origin = m.ID
	if src[1]&flagTrimmed != 0 {
		r.Trimmed = true
		return r, r.checkTrimmed(src)
	}
	rest := src[recordFixed:]
	for i, into := range []*time.Time{&m.DeliverAt, &m.ExpiresAt} {
		if src[1]&(flagDue<<i) == 0 {
			continue
		}
		if len(rest) < 8 {
			return Record{}, errRecord
		}
		*into, rest = time.UnixMilli(int64(binary.BigEndian.Uint64(rest))), rest[8:] //nolint:gosec // the bits are those that encode converted
	}
	conversation, rest, ok := cutID(rest)
	if !ok {
		return Record{}, errRecord
	}
	receiver, body, ok := cutID(rest)
	if !ok || len(body) < len(`{}`) || body[0] != '{' || body[len(body)-1] != '}' {
		return Record{}, errRecord
	}
	m.Conversation, m.Receiver.User, m.Body = conversation, messaging.UserID(receiver), body
	switch {
	case r.Lost && (!m.NoPersist || r.IsBroadcast() || receiver != ""), !r.Lost && r.IsBroadcast() == (receiver != ""):
		return Record{}, errRecord
	}
	return r, nil
}

// tombstone returns what remains of a record that is trimmed.
func (r *Record) tombstone() Record {
	return Record{Message: messaging.Message{ID: r.Message.ID, CreatedAt: r.Message.CreatedAt}, Trimmed: true}
}

// checkTrimmed returns an error for bytes that are no encoded tombstone.
func (r *Record) checkTrimmed(src []byte) error {
	if len(src) != recordFixed+2 || src[1] != flagTrimmed || src[2] != 0 || src[3] != 0 || r.Recipients != 0 ||
		src[recordFixed] != 0 || src[recordFixed+1] != 0 {
		return errRecord
	}
	return nil
}

// LostRecord returns the record that a repair puts in place of a lost one.
func LostRecord(at time.Time) Record {
	return Record{Lost: true, Message: messaging.Message{NoPersist: true, CreatedAt: at, Body: []byte(`{}`)}}
}

// Codec returns what a check or a repair of the store needs to know about records.
func Codec() storage.Codec {
	return storage.Codec{
		Inspect: func(raw []byte) (storage.RecordInfo, error) {
			r, err := DecodeRecord(raw)
			m := &r.Message
			return storage.RecordInfo{ID: m.ID, CreatedAt: m.CreatedAt, Recipients: r.Recipients, Lost: r.Lost, Trimmed: r.Trimmed}, err
		},
		Lost: func(at time.Time) []byte { return encoded(LostRecord(at)) },
		WithReceivers: func(raw []byte, recipients uint32) ([]byte, error) {
			r, err := DecodeRecord(raw)
			r.Recipients = recipients
			return encoded(r), err
		},
	}
}

func encoded(r Record) []byte {
	raw := make([]byte, r.size())
	r.encode(raw)
	return raw
}

func cutID(src []byte) (id string, rest []byte, ok bool) {
	if len(src) == 0 || len(src) < 1+int(src[0]) || src[0] > messaging.MaxIDLength {
		return "", nil, false
	}
	end := 1 + int(src[0])
	return string(src[1:end]), src[end:], true
}
