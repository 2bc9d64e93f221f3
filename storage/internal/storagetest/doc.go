// Package storagetest fills stores, and damages their files, for the tests of the
// packages around them.
package storagetest
