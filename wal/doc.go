// Package wal is the log of messages. It assigns each message a sequence number, makes it
// durable together with all other changes of the same request, and reads it back in order
// for the drain.
//
// There is one commit point. Requests hand a [Change] to [Log.Commit]. One goroutine, the
// committer, takes all pending changes, assigns sequence numbers in that order, lets each
// change stage its writes in one [storage.Batch], makes the batch durable with one fsync,
// publishes it, and wakes the requests. DESIGN.md explains the consequences.
package wal
