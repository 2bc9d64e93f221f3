// Package ledger judges a messaging service from outside. It sends load and
// reads queues over HTTP, writes down durably what it was answered, stands in
// for Django, and compares in the end: nothing that was answered may be lost,
// nothing may be there twice, out of order or altered, and nothing may be there
// that nobody sent.
//
// What is sent follows from a seed ([Plan]), so the ledger ([File]) need not hold
// it: a message names its place in the plan, and whoever finds it can make it
// again and compare. A [Load] sends and reads, a [Sink] is the Django, and
// [Judge] reads both of their files.
//
// # What the ledger knows
//
// Of each call it knows one of three things. It was answered: then its messages
// are there exactly once. It was refused: then they are nowhere. Or the
// connection was cut, and its fate is unknown: then they are there once or not at
// all, and a batch or a broadcast whole or not at all. With an idempotency key
// the call is repeated until it is answered, and counts as answered once.
//
// A line of the ledger stands before the deed where its absence would make the
// judge unjust: numbers of calls are reserved, and takes and acknowledgements
// announced, durably before they are sent. An answer is written behind the deed
// and synced in groups; one that the ledger lost would make a fate unknown, which
// is judged more mildly, never more harshly.
package ledger
