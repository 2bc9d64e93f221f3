// Package filetest finds and damages files in tests of storage.
package filetest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// NewestFile returns the matching file with the last name.
func NewestFile(t *testing.T, pattern string) string {
	t.Helper()
	return slices.Max(Glob(t, pattern))
}

// FlipByte flips a bit of one byte of a file. A negative offset counts from the end.
func FlipByte(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil { //nolint:gosec // the test names it
		t.Fatal(err)
	}
}

// Glob returns the matching files. At least one must match.
func Glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s (%v)", pattern, err)
	}
	return names
}

// LargestFile returns the largest matching file.
func LargestFile(t *testing.T, pattern string) (largest string) {
	t.Helper()
	size := int64(-1)
	for _, name := range Glob(t, pattern) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			largest, size = name, info.Size()
		}
	}
	return largest
}
