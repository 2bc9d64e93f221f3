// Package messaging holds the types that all packages of the service share: a
// [Draft] is a message that a client sends, a [Message] is a stored message, a
// [UserID] identifies a user and the user's queue, a [Priority] orders the messages
// of a queue, and an [Error] has a code for programs and a sentence for people.
//
// The package parses and validates requests ([ParseDraft], [ParseBroadcast]) and
// writes messages for readers and the backend ([Message.AppendJSON]). It keeps the
// bytes of a body: numbers keep their digits, unknown fields pass through, and the
// service's own members are written before the client's.
//
// The package uses no disk, no network and no clock.
package messaging
