package messaging

import (
	"encoding/hex"
	"strconv"
	"time"
)

// Defaults says which members of a body were left out by the client and are
// added when the message is written. The bits are stored on disk.
type Defaults uint8

// What a body may leave out.
const (
	DefaultType Defaults = 1 << iota
	DefaultPriority
	DefaultMetadata
)

// Position names a place in the log: a sequence, and for a broadcast the
// number of the receiver within it. The zero Position stands before all.
type Position struct {
	Sequence uint64 `json:"sequence"`
	Receiver uint32 `json:"receiver"`
}

// Before says whether p comes before q in the log.
func (p Position) Before(q Position) bool {
	if p.Sequence != q.Sequence {
		return p.Sequence < q.Sequence
	}
	return p.Receiver < q.Receiver
}

// Message is a message as it was stored: for one receiver, with its place in
// the log. Its Body is what the client wrote and must not be changed.
type Message struct {
	ID MessageID
	// Origin is the id of what was sent: the broadcast's for a copy, else ID.
	Origin    MessageID
	Position  Position
	CreatedAt time.Time
	// DeliverAt is when it becomes due and ExpiresAt when it is no longer handed
	// out; zero where the sender did not say.
	DeliverAt, ExpiresAt time.Time
	// Conversation is the canonical text of the conversation's id, empty in a
	// broadcast that names none.
	Conversation string
	Receiver     Receiver
	Priority     Priority
	Defaults     Defaults
	// Copy says that this is a receiver's copy of a broadcast, whose body
	// does not name the receiver.
	Copy bool
	// Stored says that the backend has this message already ("persist": false).
	Stored bool
	// Receipt and Deliveries are there under a lease: what acknowledges it, and
	// how often it was handed out so.
	Receipt    string
	Deliveries uint32
	// Body is a JSON object, as the client sent it, without control fields.
	Body []byte
}

// CopyTo gives the copy of a broadcast for one of its receivers, whose number
// within the broadcast is given; m is another copy, or has no receiver.
func (m *Message) CopyTo(number uint32, r Receiver) Message {
	c := *m
	c.ID = CopyID(m.Origin, r.User)
	c.Position.Receiver = number
	c.Receiver = r
	c.Copy = true
	return c
}

// appendMoment appends a time by RFC 3339, in UTC with milliseconds, always of one
// width. That layout takes the time package three times as long as RFC 3339 without
// a fraction, which it knows by heart.
func appendMoment(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(dst, time.RFC3339)
	const digits = "0123456789"
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(dst[:len(dst)-len("Z")], '.', digits[ms/100], digits[ms/10%10], digits[ms%10], 'Z')
}

// AppendJSON appends the message as readers and the backend get it: what the
// server adds first, then what the client wrote, byte for byte.
func (m *Message) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":"`...)
	dst = AppendID(dst, m.ID)
	dst = append(dst, `","sequence":`...)
	dst = strconv.AppendUint(dst, m.Position.Sequence, 10)
	dst = append(dst, `,"created_at":"`...)
	dst = appendMoment(dst, m.CreatedAt)
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
	if m.Defaults&DefaultType != 0 {
		dst = append(dst, `,"message_type":"text"`...)
	}
	if m.Defaults&DefaultPriority != 0 {
		dst = append(dst, `,"priority":"normal"`...)
	}
	if m.Defaults&DefaultMetadata != 0 {
		dst = append(dst, `,"metadata":{}`...)
	}
	dst = append(dst, ',')
	return append(dst, m.Body[1:]...)
}

// appendTime appends a member with a time, unless there is none.
func appendTime(dst []byte, name string, at time.Time) []byte {
	if at.IsZero() {
		return dst
	}
	dst = append(dst, name...)
	dst = appendMoment(dst, at)
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

// JSONOverhead bounds what AppendJSON adds to a body.
const JSONOverhead = 512

// appendReceiver writes the receiver of a copy. An id needs no escaping: its
// alphabet has no quote, backslash or control character.
func appendReceiver(dst []byte, r Receiver) []byte {
	dst = append(dst, `,"receiver_id":`...)
	if !r.Quoted {
		return append(dst, r.User...)
	}
	dst = append(dst, '"')
	dst = append(dst, r.User...)
	return append(dst, '"')
}
