package schema

import (
	"time"

	"github.com/stayafrica/messaging"
)

// Codec is what a check and a repair have to know of records, whose form is the
// log's: package wal has it.
type Codec struct {
	// Inspect reads a record, or says that it is damaged.
	Inspect func(record []byte) (RecordInfo, error)
	// Lost makes a record for the place of a lost one.
	Lost func(at time.Time) []byte
	// WithReceivers sets the number of recipients of a broadcast's record.
	WithReceivers func(record []byte, recipients uint32) ([]byte, error)
}

// RecordInfo is what other tables must agree with.
type RecordInfo struct {
	ID         messaging.MessageID
	CreatedAt  time.Time
	Recipients uint32 // 0 for a single message
	Lost       bool
	Trimmed    bool // early, on a full disk: only a stub is left
}
