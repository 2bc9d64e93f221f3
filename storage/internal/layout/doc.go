// Package layout says what a data directory holds: the names of its files, the
// versions of its format, the errors that keep it from being opened, its lock and
// its free space.
package layout
