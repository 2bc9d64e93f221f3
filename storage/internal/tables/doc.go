// Package tables reads and writes the tables of a store, in types instead of bytes:
// a [Reader] over a database or a snapshot, and a [Batch] for each commit. Functions
// that are not methods are for what opens, checks and repairs a store.
package tables
