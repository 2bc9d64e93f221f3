// Package wal is the log of messages. It assigns each message a sequence number, makes it
// durable together with all other changes of the same request, and reads it back in order
// for the drain. The log is a table of the Pebble database; Pebble's own write-ahead log is
// a different one.
//
// There is one commit point. A request passes a [Change] to [Log.Commit]. One goroutine, the
// committer, takes all pending changes, assigns sequence numbers in their order, and lets
// each change stage its writes in one [storage.Batch]. The batch becomes durable with one
// fsync. Another goroutine, the publisher, then makes it visible to readers and wakes the
// requests. DESIGN.md gives the reasons.
package wal
