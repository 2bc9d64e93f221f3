// Package storage owns what is on disk: the Pebble database that holds the log,
// the queues and their counts, and the control file (bbolt) that holds what is
// safe when it is a little old. It knows keys, bytes and files; what they mean
// to a sender or a reader is the business of the layers above it.
//
// [Open] opens a data directory whole or refuses it whole: an unknown format, a
// store that holds less than was acknowledged, a second process or a full disk
// each return an error of their own ([ErrFormat], [ErrCorrupt], [ErrLocked],
// [ErrDiskFull]) and leave every file as it was.
//
// A [Batch] is the one way to change the database, and [Batch.Commit] the one
// moment at which a change becomes durable.
//
// The parts are packages below internal: schema (keys and values), tables (typed
// access to them), pebbledb, diskfs, controlfile, boltpage, format1 and layout (file
// names, errors, lock). This package opens and recovers a store of them, and names
// what importers need. Package fsck checks a store and package repair repairs one;
// both use the parts, and this package uses neither.
package storage
