// Package persist delivers the log to the backend (Django). Its [Drain] reads messages in
// order, sends them in batches and saves its position. [Jobs] run replays and redrives.
//
// One goroutine, [Drain.Run], owns all state of a drain. It reads ahead in the log into a
// bounded window, sorts messages into lanes, one per conversation, and forms batches from
// the ready lanes. For each batch a sender goroutine calls the [Sink] and returns its
// [Response].
//
// A message is settled when the backend has stored it, when it is a dead letter, or when
// its sender marked it as already stored in the backend. The saved position is the lowest
// sequence that is not settled. So a restart never skips a message, and may send settled
// messages after the position again, under the same ids. DESIGN.md gives the reasons.
package persist
