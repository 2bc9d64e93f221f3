// Package storage owns the files on disk: the Pebble database, which holds the log, the
// queues and their counts, and the control file (bbolt), which holds state that may be a
// little old. It deals with keys, bytes and files. The layers above it know what they
// mean to senders and readers.
//
// [Open] either opens a data directory completely or refuses it. An unknown format, a
// store that holds less than was acknowledged, a second process and a full disk each
// return their own error ([ErrFormat], [ErrCorrupt], [ErrLocked], [ErrDiskFull]) and
// leave every file unchanged.
//
// A [Batch] is the only way to change the database. [Batch.Commit] is the only point at
// which a change becomes durable.
//
// The parts are internal packages: schema (keys and values), tables (typed access),
// pebbledb, diskfs, controlfile, boltpage, format1 and layout (file names, errors, lock).
// This package assembles them into a store, opens and recovers it, and re-exports the
// names that importers need. Package fsck checks a store and package repair repairs one.
// Both use the parts; this package uses neither.
package storage
