package format1

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// In format 1 dead letters, jobs and the drain's position are in the control
// file:
//
//	dead_letters           <kind>-<message id>  → JSON, checksum
//	dead_letter_receivers  id / user            → number:4 quoted:1, checksum
//	dead_letter_groups     (an index)
//	jobs                   id                   → JSON, checksum
//	state, state_copy      drain_position       → sequence:8 receiver:4, checksum
//	                       dead_<kind>          → count:8, checksum
const keyPosition = "drain_position"

// Letter is a dead letter of format 1.
type Letter struct {
	ID         string                   `json:"id"`
	Kind       messaging.DeadLetterKind `json:"kind"`
	Reason     string                   `json:"reason"`
	StatusCode int                      `json:"status_code"`
	Attempts   int                      `json:"attempts"`
	FailedAt   time.Time                `json:"failed_at"`
	Recipients int                      `json:"recipients"`
	Message    message                  `json:"message"`
	LatestAt   time.Time                `json:"latest_at,omitzero"`
}

// DeadMessage returns the message.
func (l *Letter) DeadMessage() messaging.Message { return l.Message.decoded() }

// message is the message of a dead letter of format 1. It has the fields of
// [messaging.Message] under their former names.
type message struct {
	ID, Origin                      messaging.MessageID
	Position                        messaging.Position
	CreatedAt, DeliverAt, ExpiresAt time.Time
	Conversation                    string
	Receiver                        messaging.Receiver
	Priority                        messaging.Priority
	Defaults                        messaging.DefaultedFields
	Copy, Stored                    bool
	Body                            []byte
}

func (m *message) decoded() messaging.Message {
	return messaging.Message{
		ID: m.ID, Origin: m.Origin, Position: m.Position, CreatedAt: m.CreatedAt, DeliverAt: m.DeliverAt, ExpiresAt: m.ExpiresAt,
		Conversation: m.Conversation, Receiver: m.Receiver, Priority: m.Priority, Defaulted: m.Defaults, Copy: m.Copy, NoPersist: m.Stored, Body: m.Body,
	}
}

// Reader reads the dead letters, jobs and drain position of a control file of format 1.
type Reader struct{ file controlfile.File }

// NewReader returns a reader of a control file.
func NewReader(file controlfile.File) Reader { return Reader{file} }

// Position returns the drain's position. It is zero if nothing was drained.
func (f Reader) Position() (p messaging.Position, err error) {
	err = controlfile.ViewState(f.file, keyPosition, 12, func(v []byte) {
		p = messaging.Position{Sequence: binary.BigEndian.Uint64(v), Receiver: binary.BigEndian.Uint32(v[8:])}
	})
	return p, err
}

// Jobs calls each for every job.
func (f Reader) Jobs(each func(id string, j schema.JobRecord) error) error {
	return f.scan(controlfile.Format1Jobs, func(id string, value []byte) error {
		job, err := DecodeJob(id, value)
		if err != nil {
			return fmt.Errorf("%w: %s: job %s: %w", layout.ErrCorrupt, layout.ControlName, id, err)
		}
		return each(id, job)
	})
}

// DecodeJob decodes a job.
func DecodeJob(id string, value []byte) (schema.JobRecord, error) {
	var job struct {
		State messaging.JobState
	}
	if err := json.Unmarshal(value, &job); err != nil {
		return schema.JobRecord{}, err
	}
	if id == "" || len(id) > schema.MaxJobID {
		return schema.JobRecord{}, schema.ErrKey
	}
	return schema.JobRecord{Ended: job.State != messaging.JobRunning, Record: slices.Clone(value)}, nil
}

// Letters calls each for every dead letter that has a recipient.
func (f Reader) Letters(each func(l *Letter, recipients map[messaging.UserID]schema.LetterRecipient) error) error {
	return f.scan(controlfile.Format1Letters, func(id string, value []byte) error {
		l, err := DecodeLetter(value)
		if err != nil {
			return fmt.Errorf("%w: %s: dead letter %s: %w", layout.ErrCorrupt, layout.ControlName, id, err)
		}
		recipients, err := f.recipients(id)
		if err != nil || len(recipients) == 0 {
			return err
		}
		return each(&l, recipients)
	})
}

// DecodeLetter decodes a dead letter. It refuses one that cannot be copied.
func DecodeLetter(value []byte) (l Letter, err error) {
	if err := json.Unmarshal(value, &l); err != nil {
		return l, err
	}
	if schema.KindByte(l.Kind) == 0 || l.Message.Position.Sequence == 0 || l.Attempts < 0 || l.StatusCode < 0 || len(l.Reason) > messaging.MaxReason {
		return l, schema.ErrValue
	}
	return l, nil
}

func (f Reader) recipients(id string) (map[messaging.UserID]schema.LetterRecipient, error) {
	recipients := make(map[messaging.UserID]schema.LetterRecipient)
	prefix := id + "/"
	err := controlfile.Scan(f.file, controlfile.Format1LetterReceivers, prefix, func(key string, value []byte) (bool, error) {
		user, ok := strings.CutPrefix(key, prefix)
		if !ok {
			return false, nil
		}
		r, err := DecodeRecipient(user, value)
		if err != nil {
			return false, fmt.Errorf("%w: %s: a recipient of %s cannot be read", layout.ErrCorrupt, layout.ControlName, id)
		}
		recipients[messaging.UserID(user)] = r
		return true, nil
	})
	return recipients, err
}

// DecodeRecipient decodes a recipient of a dead letter.
func DecodeRecipient(user string, value []byte) (schema.LetterRecipient, error) {
	if len(value) != 5 || user == "" || len(user) > messaging.MaxIDLength {
		return schema.LetterRecipient{}, schema.ErrValue
	}
	return schema.LetterRecipient{Number: binary.BigEndian.Uint32(value), Quoted: value[4] == 1}, nil
}

func (f Reader) scan(bucket string, each func(key string, value []byte) error) error {
	return controlfile.Scan(f.file, bucket, "", func(key string, value []byte) (bool, error) { return true, each(key, value) })
}

// Check reads everything and returns the number of dead letters.
func (f Reader) Check() (letters uint64, err error) {
	_, err = f.Position()
	return letters, errors.Join(err,
		f.Jobs(func(string, schema.JobRecord) error { return nil }),
		f.Letters(func(*Letter, map[messaging.UserID]schema.LetterRecipient) error { letters++; return nil }))
}
