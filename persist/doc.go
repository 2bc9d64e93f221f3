// Package persist drains the log into the backend: it reads messages in order, sends
// them in batches and saves its position.
//
// One goroutine, [Drain.Run], owns all state. It reads ahead in the log into a bounded
// window, sorts messages into lanes, one per conversation, and forms batches from the
// ready lanes. A sender goroutine per batch passes it to the [Sink] and returns its
// [Response]. A message is settled when the backend has stored it, when it is a dead
// letter, or when its sender marked it as already stored in the backend. The saved
// position is the lowest message that is not settled. So a restart may send settled
// messages above it again, under the same ids, and never skips a message. DESIGN.md
// gives the reasons.
package persist
