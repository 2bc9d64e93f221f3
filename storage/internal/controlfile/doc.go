// Package controlfile has the small file beside the database: which store this is,
// in which format, and how far it was acknowledged. No fact about a message is in
// it. Every value carries a checksum, because bbolt has none, and the state is in
// two buckets, on pages of their own.
package controlfile
