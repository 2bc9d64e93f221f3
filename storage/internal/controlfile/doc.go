// Package controlfile has the small file next to the database. It identifies the store
// and its format, and records how far the store was acknowledged. It holds nothing about
// messages. Every value carries a checksum, because bbolt has none. The state is in two
// buckets on separate pages.
package controlfile
