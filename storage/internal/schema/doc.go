// Package schema defines the keys and values of every table. Each codec has its bytes
// drawn above it. The package uses no files and no storage library.
package schema
