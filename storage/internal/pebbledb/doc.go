// Package pebbledb opens Pebble databases with the options of a store, says what
// kept one from opening, and reads single tables.
package pebbledb
