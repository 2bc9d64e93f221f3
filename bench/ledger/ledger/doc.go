// Package ledger checks a messaging service from outside. A [Load] sends messages and
// reads queues over HTTP, and durably records the responses in a [File], the ledger. A
// [Sink] replaces Django and records what it stores. [Judge] compares both files and the
// service at the end: no accepted message may be lost, and no message may be duplicated,
// reordered, altered or invented.
//
// All traffic is generated from a seed ([Plan]), so the ledger does not store it. A message
// names its place in the plan, from which the judge generates it again and compares.
//
// # Outcomes of a call
//
// A call has one of three outcomes. It succeeded: its messages must be present exactly
// once. It was refused: they must not be present. Or the connection broke, and the outcome
// is unknown: they may be present once or not at all, and a batch or a broadcast is present
// completely or not at all. A call with an idempotency key is repeated until it gets a
// response, and counts as one call.
//
// The ledger durably reserves call numbers, and records takes and acknowledgements, before
// they are sent. Without these lines the judge would report false losses. It writes
// responses after the call and syncs them in groups. If a response line is lost, the outcome
// of the call is unknown, which makes the judge less strict, never stricter.
package ledger
