// Package pebbledb opens Pebble databases with a store's options, explains why one does
// not open, and reads single tables.
package pebbledb
