// Package storagetest fills stores and damages their files, for tests of other packages.
package storagetest
