package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func linesOf(t *testing.T, path string) (lines []string) {
	t.Helper()
	if err := readLines(path, func(words []string) error {
		lines = append(lines, strings.Join(words, " "))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestFileKeepsLinesInOrderAndRemovesAnIncompleteOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Append("one", "1")
	if err := f.Sync("two", "2"); err != nil {
		t.Fatal(err)
	}
	if got := linesOf(t, path); fmt.Sprint(got) != "[one 1 two 2]" {
		t.Fatalf("synced: %v", got)
	}
	f.Append("three")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, "four 12"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := linesOf(t, path); len(got) != 3 {
		t.Errorf("half a line was read: %v", got)
	}
	if f, err = Create(path); err != nil {
		t.Fatal(err)
	}
	f.Append("five")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := linesOf(t, path); fmt.Sprint(got) != "[one 1 two 2 three five]" {
		t.Errorf("after half a line: %v", got)
	}
	text[1] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readLines(path, func([]string) error { return nil }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a flipped bit: %v", err)
	}
}

func TestFileSyncsInGroups(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 20 {
				if err := f.Sync(fmt.Sprint(w), fmt.Sprint(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := linesOf(t, path); len(got) != 160 {
		t.Errorf("%d lines", len(got))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
