// Package ledger judges a messaging service from outside. It sends load and reads
// queues over HTTP, durably records the responses, stands in for Django, and compares
// at the end: no acknowledged message may be lost, and no message may be duplicated,
// reordered, altered or made up.
//
// All traffic is derived from a seed ([Plan]), so the ledger ([File]) does not store
// it: a message names its place in the plan, from which the judge generates it again
// and compares. A [Load] sends and reads, a [Sink] is the Django, and [Judge] reads the
// files of both.
//
// # What the ledger knows
//
// There are three outcomes of a call. It was answered: its messages must be present
// exactly once. It was refused: they must not be present. Or the connection broke, and
// the outcome is unknown: they may be present once or not at all, and a batch or a
// broadcast is present entirely or not at all. A call with an idempotency key is
// repeated until it is answered, and counts as answered once.
//
// The ledger writes a line before an action if the judge would be unjust without the
// line: call numbers are reserved, and takes and acknowledgements announced, durably
// before they are sent. It writes a response after the action and syncs it in groups. A
// lost response makes an outcome unknown, which the judge treats more leniently, never
// more strictly.
package ledger
