package schema

import (
	"time"

	"github.com/stayafrica/messaging"
)

// Codec is what a check and a repair need to know about records. The log owns the format
// of records; package wal implements the codec.
type Codec struct {
	// Inspect decodes a record, or returns an error if it is damaged.
	Inspect func(record []byte) (RecordInfo, error)
	// Lost returns a record that takes the place of a lost one.
	Lost func(at time.Time) []byte
	// WithReceivers returns a broadcast's record with another number of recipients.
	WithReceivers func(record []byte, recipients uint32) ([]byte, error)
}

// RecordInfo is the part of a record that other tables must match.
type RecordInfo struct {
	ID         messaging.MessageID
	CreatedAt  time.Time
	Recipients uint32 // 0 for a single message
	Lost       bool
	Trimmed    bool // early, on a full disk: only a tombstone is left
}
