package storage

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// What the tables hold. Package schema has the bytes of each.
type (
	// Meta says how far the store has come. It is written with every commit.
	Meta = schema.Meta
	// Entry is one message's place in a user's queue.
	Entry = schema.Entry
	// Index says in which of its two tables an entry of a queue is.
	Index = schema.Index
	// Depth counts a user's entries on one index.
	Depth = schema.Depth
	// QueueState is the depths of a user's queue.
	QueueState = schema.QueueState
	// Event says what happens to an entry at its time.
	Event = schema.Event
	// Timer is an event of one entry.
	Timer = schema.Timer
	// Clear is a clear of a user's queue that is not finished.
	Clear = schema.Clear
	// Fanout is a large broadcast whose receivers are being entered into their queues.
	Fanout = schema.Fanout
	// IdempotencyRecord is the answer to the first call with an idempotency key.
	IdempotencyRecord = schema.IdempotencyRecord
	// IdempotencyExpiry says when an idempotency key may be removed.
	IdempotencyExpiry = schema.IdempotencyExpiry
	// JobRecord is a job as it is kept.
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
	// LetterID is the id of a dead letter, by its parts.
	LetterID = schema.LetterID
	// LetterRecipient is one recipient of a dead letter.
	LetterRecipient = schema.LetterRecipient
)

// What a check and a repair have to know of records.
type (
	// Codec reads and makes records. Package wal has the codec of the log.
	Codec = schema.Codec
	// RecordInfo is what other tables must agree with.
	RecordInfo = schema.RecordInfo
)

const (
	// Queued is the index from which messages are handed out.
	Queued = schema.Queued
	// Delayed is the index of messages that are due later.
	Delayed = schema.Delayed
	// Due is the event of an entry that becomes due.
	Due = schema.Due
	// Expiry is the event of an entry that expires.
	Expiry = schema.Expiry
	// TrimmedUnknown is [Meta.Trimmed] after an upgrade or a repair.
	TrimmedUnknown = schema.TrimmedUnknown
)

// LetterKinds lists the kinds of dead letters in the order of their keys.
func LetterKinds() []messaging.DeadLetterKind { return schema.LetterKinds() }

// ReasonHash is the hash of a reason in keys.
func ReasonHash(reason string) uint64 { return schema.ReasonHash(reason) }

// DerivedLetterID is the id of a dead letter whose recipients' ids are all those
// of other letters.
func DerivedLetterID(k LetterKey) messaging.MessageID { return schema.DerivedLetterID(k) }

// CompareUsers orders users as their keys are.
func CompareUsers(a, b messaging.UserID) int { return schema.CompareUsers(a, b) }
