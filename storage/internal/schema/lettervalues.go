package schema

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/stayafrica/messaging"
)

// Letter is a dead letter without its message and its recipients.
//
//	version:1  id:16  failed at:8  last failed at:8 (Unix ns)  status:uvarint  attempts:uvarint
//	recipients:uvarint  named number:uvarint  quoted:1  len:1 named user  reason (to the end)
type Letter struct {
	// ID is the message id from which the letter's id is made. It is that of Named.
	ID messaging.MessageID
	// Named is the recipient whose message a listing shows. Number is its number in the
	// broadcast.
	Named  messaging.Receiver
	Number uint32
	// StatusCode, Attempts (the highest of all recipients) and FailedAt are as in
	// [messaging.DeadLetter]. LastFailedAt is when the latest recipient failed. Retention
	// counts from there.
	StatusCode             int
	Attempts               int
	FailedAt, LastFailedAt time.Time
	// Recipients is the number of recipients.
	Recipients uint32
	Reason     string
}

const letterVersion = 1

// Encode returns the value of a dead letter.
func (l *Letter) Encode() []byte {
	dst := append([]byte{letterVersion}, l.ID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.FailedAt.UnixNano()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.LastFailedAt.UnixNano()))
	for _, n := range []uint64{uint64(l.StatusCode), uint64(l.Attempts), uint64(l.Recipients), uint64(l.Number)} { //nolint:gosec // not negative
		dst = binary.AppendUvarint(dst, n)
	}
	dst = appendReceiver(dst, l.Named)
	return append(dst, l.Reason...)
}

// DecodeLetter decodes the value of a dead letter.
func DecodeLetter(src []byte) (l Letter, err error) {
	const fixed = 1 + 16 + 8 + 8
	if len(src) < fixed || src[0] != letterVersion {
		return Letter{}, ErrValue
	}
	l.ID = messaging.MessageID(src[1:17])
	l.FailedAt = time.Unix(0, int64(binary.BigEndian.Uint64(src[17:])))     //nolint:gosec // any bits are valid
	l.LastFailedAt = time.Unix(0, int64(binary.BigEndian.Uint64(src[25:]))) //nolint:gosec // the same
	var numbers [4]uint64
	rest := src[fixed:]
	for i := range numbers {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > math.MaxUint32 {
			return Letter{}, ErrValue
		}
		numbers[i], rest = n, rest[size:]
	}
	l.StatusCode, l.Attempts = int(numbers[0]), int(numbers[1])     //nolint:gosec // at most 2^32
	l.Recipients, l.Number = uint32(numbers[2]), uint32(numbers[3]) //nolint:gosec // the same
	if l.Named, rest, err = cutReceiver(rest); err != nil || len(rest) > messaging.MaxReason {
		return Letter{}, ErrValue
	}
	l.Reason = string(rest)
	return l, nil
}

// appendReceiver appends a receiver: quoted:1 len:1 user.
func appendReceiver(dst []byte, r messaging.Receiver) []byte {
	quoted := byte(0)
	if r.Quoted {
		quoted = 1
	}
	dst = append(dst, quoted, byte(len(r.User))) //nolint:gosec // at most 64
	return append(dst, r.User...)
}

func cutReceiver(src []byte) (r messaging.Receiver, rest []byte, err error) {
	if len(src) < 2 || src[0] > 1 || src[1] > messaging.MaxIDLength || len(src) < 2+int(src[1]) {
		return r, nil, ErrValue
	}
	end := 2 + int(src[1])
	return messaging.Receiver{Quoted: src[0] == 1, User: messaging.UserID(src[2:end])}, src[end:], nil
}

// LetterRecipient is one recipient of a dead letter.
//
//	version:1  quoted:1  number:4  attempts:4  job id (to the end; empty if no job redrives it)
type LetterRecipient struct {
	// Number is the recipient's number in the broadcast, if it is known.
	Number uint32
	Quoted bool
	// Attempts is how often its message was sent to the backend, or delivered.
	Attempts uint32
	// Job is the job that redrives the recipient, or "-" and the job in which the backend
	// last refused it. It is empty if there is neither.
	Job string
}

const letterRecipientFixed = 1 + 1 + 4 + 4

// Encode returns the value of a recipient.
func (r *LetterRecipient) Encode() []byte {
	quoted := byte(0)
	if r.Quoted {
		quoted = 1
	}
	dst := binary.BigEndian.AppendUint32([]byte{letterVersion, quoted}, r.Number)
	return append(binary.BigEndian.AppendUint32(dst, r.Attempts), r.Job...)
}

// DecodeLetterRecipient decodes the value of a recipient.
func DecodeLetterRecipient(src []byte) (LetterRecipient, error) {
	if len(src) < letterRecipientFixed || len(src) > letterRecipientFixed+MaxJobID || src[0] != letterVersion || src[1] > 1 {
		return LetterRecipient{}, ErrValue
	}
	return LetterRecipient{
		Quoted: src[1] == 1, Number: binary.BigEndian.Uint32(src[2:]), Attempts: binary.BigEndian.Uint32(src[6:]),
		Job: string(src[letterRecipientFixed:]),
	}, nil
}

// The message of dead letters, without the fields that differ between recipients:
//
//	version:1  flags:1  priority:1  defaults:1  origin:16  created:8 (Unix ms)
//	due:8  expires:8 (Unix ms, 0 for none)  len:1 conversation  quoted:1 len:1 receiver (none in a copy)
//	body (to the end)
//
// flags: 1 it is a broadcast, whose recipients get copies.
const (
	letterMessageFixed = 1 + 1 + 1 + 1 + 16 + 8 + 8 + 8
	letterMessageCopy  = 1
)

// EncodeLetterMessage returns the value of the message of dead letters.
func EncodeLetterMessage(m *messaging.Message) []byte {
	flags, receiver := byte(0), m.Receiver
	if m.Copy {
		flags, receiver = letterMessageCopy, messaging.Receiver{}
	}
	dst := make([]byte, 0, letterMessageFixed+1+len(m.Conversation)+2+len(receiver.User)+len(m.Body))
	dst = append(dst, letterVersion, flags, byte(m.Priority), byte(m.Defaulted))
	dst = append(dst, m.Origin[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.CreatedAt.UnixMilli()))
	for _, at := range []time.Time{m.DeliverAt, m.ExpiresAt} {
		ms := int64(0)
		if !at.IsZero() {
			ms = max(1, at.UnixMilli())
		}
		dst = binary.BigEndian.AppendUint64(dst, uint64(ms))
	}
	dst = append(dst, byte(len(m.Conversation))) //nolint:gosec // at most 64
	dst = append(dst, m.Conversation...)
	dst = appendReceiver(dst, receiver)
	return append(dst, m.Body...)
}

// DecodeLetterMessage decodes a message. Its Body aliases src. A copy has neither id nor
// receiver: [messaging.Message.CopyTo] sets both.
func DecodeLetterMessage(seq uint64, src []byte) (m messaging.Message, err error) {
	if len(src) < letterMessageFixed+1 || src[0] != letterVersion || src[1] > letterMessageCopy || src[2] >= messaging.Priorities {
		return m, ErrValue
	}
	m.Copy, m.Priority, m.Defaulted = src[1] == letterMessageCopy, messaging.Priority(src[2]), messaging.DefaultedFields(src[3])
	m.Origin = messaging.MessageID(src[4:20])
	m.ID, m.Position.Sequence = m.Origin, seq
	m.CreatedAt = time.UnixMilli(int64(binary.BigEndian.Uint64(src[20:]))) //nolint:gosec // any bits are valid
	for i, into := range []*time.Time{&m.DeliverAt, &m.ExpiresAt} {
		if ms := binary.BigEndian.Uint64(src[28+8*i:]); ms != 0 {
			*into = time.UnixMilli(int64(ms)) //nolint:gosec // any bits are valid
		}
	}
	rest := src[letterMessageFixed:]
	n := int(rest[0])
	if n > messaging.MaxIDLength || len(rest) < 1+n {
		return messaging.Message{}, ErrValue
	}
	m.Conversation = string(rest[1 : 1+n])
	if m.Receiver, rest, err = cutReceiver(rest[1+n:]); err != nil || len(rest) < len(`{}`) || rest[0] != '{' || (m.Copy != (m.Receiver.User == "")) {
		return messaging.Message{}, ErrValue
	}
	m.Body = rest
	return m, nil
}

// positionLen is the length of the drain's position: version:1 sequence:8 receiver:4.
const positionLen = 1 + 8 + 4

// EncodePosition returns the value of the drain's position.
func EncodePosition(p messaging.Position) []byte {
	dst := binary.BigEndian.AppendUint64([]byte{letterVersion}, p.Sequence)
	return binary.BigEndian.AppendUint32(dst, p.Receiver)
}

// DecodePosition decodes the value of the drain's position.
func DecodePosition(src []byte) (messaging.Position, error) {
	if len(src) != positionLen || src[0] != letterVersion {
		return messaging.Position{}, ErrValue
	}
	return messaging.Position{Sequence: binary.BigEndian.Uint64(src[1:]), Receiver: binary.BigEndian.Uint32(src[9:])}, nil
}

// JobRecord is a stored job. Record is in the format of the job's owner.
//
//	version:1  ended:1  record (to the end)
type JobRecord struct {
	// Ended is true if the job no longer runs. It then holds no dead letter.
	Ended  bool
	Record []byte
}

// Encode returns the value of a job.
func (j *JobRecord) Encode() []byte {
	ended := byte(0)
	if j.Ended {
		ended = 1
	}
	return append([]byte{letterVersion, ended}, j.Record...)
}

// DecodeJob decodes the value of a job.
func DecodeJob(src []byte) (JobRecord, error) {
	if len(src) < 2 || src[0] != letterVersion || src[1] > 1 {
		return JobRecord{}, ErrValue
	}
	return JobRecord{Ended: src[1] == 1, Record: append([]byte(nil), src[2:]...)}, nil
}

// DecodeLetterID decodes the key of the dead letter with an id: sequence:8 reason:8.
func DecodeLetterID(id LetterID, v []byte) (LetterKey, error) {
	if len(v) != 16 {
		return LetterKey{}, ErrValue
	}
	return LetterKey{id.Kind, binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}, nil
}
