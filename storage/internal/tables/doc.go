// Package tables gives typed access to the tables of a store: a [Reader] of a database or
// a snapshot, and a [Batch] for each commit. Its functions that are not methods are for
// opening, checking and repairing a store.
package tables
