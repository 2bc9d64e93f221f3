// Package controlfile reads and writes the control file, a small bbolt file next to the
// database. It identifies the store and its format, and holds the watermark: a lower bound
// of the sequences that were acknowledged. It holds nothing about messages. Every value
// carries a checksum, because bbolt has none. The state is in two buckets on separate
// pages.
package controlfile
