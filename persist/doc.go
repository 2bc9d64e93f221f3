// Package persist drains the log into the backend: it reads messages in order,
// sends them in batches, and remembers how far it came.
//
// One goroutine, [Drain.Run], owns all state. It reads the log ahead into a
// bounded window, sorts messages into lanes, one a conversation, and makes
// batches of what is ready; senders carry a batch each to the [Sink] and bring
// its [Answer] back. A message is settled when the backend has it, when it is a
// dead letter, or when the sender said that the backend has it already. The
// position that is saved is the lowest message not yet settled, so a restart
// may send again what was settled beyond it, under the same ids, and never
// leaves anything out. DESIGN.md says why.
package persist
