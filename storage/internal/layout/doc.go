// Package layout describes a data directory: its file names, its format versions, the
// errors that prevent opening it, its lock and its free space.
package layout
