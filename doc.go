// Package messaging holds the types that all packages of the service share. A [Draft] is
// a message that a client sends, and a [Message] is a stored message. A [UserID]
// identifies a user and the user's queue. A [Priority] orders the messages of a queue. An
// [Error] has a code for programs and a sentence for people.
//
// The package parses and validates requests ([ParseDraft], [ParseBroadcast]) and
// writes messages for readers and the backend ([Message.AppendJSON]). It keeps the
// bytes of a body: numbers keep their digits, unknown fields pass through, and the
// service's own members are written before the client's.
//
// The package uses no disk, no network and no clock.
package messaging
