package storage

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Contents of the tables. Package schema defines their bytes.
type (
	// Meta is the state of the log. Every commit writes it.
	Meta = schema.Meta
	// Entry is one message in a user's queue.
	Entry = schema.Entry
	// Index is one of the two tables of a queue's entries.
	Index = schema.Index
	// Depth counts a user's entries in one index.
	Depth = schema.Depth
	// QueueState is the depths of a user's queue.
	QueueState = schema.QueueState
	// Event is what happens to an entry at a set time.
	Event = schema.Event
	// Timer is an event of one entry.
	Timer = schema.Timer
	// Clear is an unfinished clear of a user's queue.
	Clear = schema.Clear
	// Fanout is a large broadcast that is still being enqueued for its receivers.
	Fanout = schema.Fanout
	// IdempotencyRecord is the result of the first call with an idempotency key.
	IdempotencyRecord = schema.IdempotencyRecord
	// IdempotencyExpiry is when an idempotency key may be removed.
	IdempotencyExpiry = schema.IdempotencyExpiry
	// JobRecord is a stored job.
	JobRecord = schema.JobRecord
)

// Dead letters.
type (
	// Letter is a dead letter without its message and its recipients.
	Letter = schema.Letter
	// LetterKey names a dead letter.
	LetterKey = schema.LetterKey
	// LetterMessageKey names the message of dead letters of one kind.
	LetterMessageKey = schema.LetterMessageKey
	// LetterID is the id of a dead letter and the parts that derive from it.
	LetterID = schema.LetterID
	// LetterRecipient is one recipient of a dead letter.
	LetterRecipient = schema.LetterRecipient
)

// What a check and a repair need to know about records.
type (
	// Codec decodes and builds records. Package wal implements it for the log.
	Codec = schema.Codec
	// RecordInfo is the part of a record that other tables must match.
	RecordInfo = schema.RecordInfo
)

const (
	// Queued is the index from which messages are delivered.
	Queued = schema.Queued
	// Delayed is the index of messages that are not due yet.
	Delayed = schema.Delayed
	// Due is the event of an entry becoming due.
	Due = schema.Due
	// Expiry is the event of an entry expiring.
	Expiry = schema.Expiry
	// TrimmedUnknown is [Meta.Trimmed] after an upgrade or a repair.
	TrimmedUnknown = schema.TrimmedUnknown
)

// LetterKinds lists the kinds of dead letters in the order of their keys.
func LetterKinds() []messaging.DeadLetterKind { return schema.LetterKinds() }

// ReasonHash returns the hash of a reason, as used in keys.
func ReasonHash(reason string) uint64 { return schema.ReasonHash(reason) }

// DerivedLetterID returns the id of a dead letter whose recipients' ids all belong to
// other letters.
func DerivedLetterID(k LetterKey) messaging.MessageID { return schema.DerivedLetterID(k) }

// CompareUsers compares users in the order of their keys.
func CompareUsers(a, b messaging.UserID) int { return schema.CompareUsers(a, b) }
