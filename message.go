package messaging

import (
	"encoding/hex"
	"strconv"
	"time"
)

// DefaultedFields is the set of members that the client omitted and AppendJSON adds.
// The bits are stored on disk.
type DefaultedFields uint8

// The members that a client may omit.
const (
	DefaultType DefaultedFields = 1 << iota
	DefaultPriority
	DefaultMetadata
)

// Position is a position in the log: a sequence, and for a broadcast the number of the
// receiver within it. The zero Position is before all others.
type Position struct {
	Sequence uint64 `json:"sequence"`
	Receiver uint32 `json:"receiver"`
}

// Before reports whether p is before q in the log.
func (p Position) Before(q Position) bool {
	if p.Sequence != q.Sequence {
		return p.Sequence < q.Sequence
	}
	return p.Receiver < q.Receiver
}

// Message is a stored message for one receiver, with its position in the log. Body must
// not be changed.
type Message struct {
	ID MessageID
	// Origin is the broadcast's id for a copy of a broadcast, and ID otherwise.
	Origin    MessageID
	Position  Position
	CreatedAt time.Time
	// DeliverAt is the time of the first possible delivery and ExpiresAt the time
	// after which there is none; zero if the sender set none.
	DeliverAt, ExpiresAt time.Time
	// Conversation is the canonical text of the conversation's id, empty in a
	// broadcast that names none.
	Conversation string
	Receiver     Receiver
	Priority     Priority
	Defaulted    DefaultedFields
	// Copy is true for a receiver's copy of a broadcast. Its body does not contain
	// the receiver.
	Copy bool
	// NoPersist is true if the backend already has the message ("persist": false).
	NoPersist bool
	// Receipt and Deliveries are set for a leased message: the receipt of this
	// delivery, and the number of deliveries under a lease.
	Receipt    string
	Deliveries uint32
	// Body is the JSON object of the client without its control fields.
	Body []byte
}

// CopyTo returns the copy of a broadcast for the receiver with the given number within
// the broadcast. m is another copy, or has no receiver.
func (m *Message) CopyTo(number uint32, r Receiver) Message {
	c := *m
	c.ID = CopyID(m.Origin, r.User)
	c.Position.Receiver = number
	c.Receiver = r
	c.Copy = true
	return c
}

// appendTimestamp appends a time in RFC 3339 format, in UTC with three digits of
// milliseconds. It appends the fraction itself: package time has a fast path for
// RFC 3339 without a fraction, and takes three times as long with one.
func appendTimestamp(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(dst, time.RFC3339)
	const digits = "0123456789"
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(dst[:len(dst)-len("Z")], '.', digits[ms/100], digits[ms/10%10], digits[ms%10], 'Z')
}

// AppendJSON appends the message in the form for readers and the backend: first the
// members of the service, then those of the client, byte for byte.
func (m *Message) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":"`...)
	dst = AppendID(dst, m.ID)
	dst = append(dst, `","sequence":`...)
	dst = strconv.AppendUint(dst, m.Position.Sequence, 10)
	dst = append(dst, `,"created_at":"`...)
	dst = appendTimestamp(dst, m.CreatedAt)
	dst = append(dst, '"')
	dst = appendTime(dst, `,"deliver_at":"`, m.DeliverAt)
	dst = appendTime(dst, `,"expires_at":"`, m.ExpiresAt)
	if m.Receipt != "" {
		dst = append(dst, `,"receipt":"`...)
		dst = append(dst, m.Receipt...)
		dst = append(dst, `","deliveries":`...)
		dst = strconv.AppendUint(dst, uint64(m.Deliveries), 10)
	}
	if m.Copy {
		dst = appendReceiver(dst, m.Receiver)
	}
	if m.Defaulted&DefaultType != 0 {
		dst = append(dst, `,"message_type":"text"`...)
	}
	if m.Defaulted&DefaultPriority != 0 {
		dst = append(dst, `,"priority":"normal"`...)
	}
	if m.Defaulted&DefaultMetadata != 0 {
		dst = append(dst, `,"metadata":{}`...)
	}
	dst = append(dst, ',')
	return append(dst, m.Body[1:]...)
}

// appendTime appends a member with a time, unless the time is zero.
func appendTime(dst []byte, name string, at time.Time) []byte {
	if at.IsZero() {
		return dst
	}
	dst = append(dst, name...)
	dst = appendTimestamp(dst, at)
	return append(dst, '"')
}

// AppendID appends the 36 characters of an id.
func AppendID(dst []byte, id MessageID) []byte {
	dst = hex.AppendEncode(dst, id[0:4])
	for _, group := range [][2]int{{4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, id[group[0]:group[1]])
	}
	return dst
}

// JSONOverhead bounds the bytes that AppendJSON adds to a body.
const JSONOverhead = 512

// appendReceiver appends the receiver of a copy. An id needs no escaping: its alphabet
// has no quote, backslash or control character.
func appendReceiver(dst []byte, r Receiver) []byte {
	dst = append(dst, `,"receiver_id":`...)
	if !r.Quoted {
		return append(dst, r.User...)
	}
	dst = append(dst, '"')
	dst = append(dst, r.User...)
	return append(dst, '"')
}
