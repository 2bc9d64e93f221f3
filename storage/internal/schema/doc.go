// Package schema has the keys and the values of every table, with their bytes
// above the functions that write and read them. It knows no files and no library
// that writes any.
package schema
