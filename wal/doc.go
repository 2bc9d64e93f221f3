// Package wal is the log of messages: it gives each its sequence number, makes
// it durable together with everything else that the same request changes, and
// lets the drain read it back in order.
//
// There is one commit point. Requests hand a [Change] to [Log.Commit]; one
// goroutine, the committer, takes all that wait, gives out sequence numbers in
// that order, lets each change add its share to one [storage.Batch], makes the
// batch durable with one fsync, publishes, and wakes the requests. See
// DESIGN.md for what follows from it.
package wal
