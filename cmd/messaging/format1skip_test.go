package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/bench/archive"
)

// TestAStoreOfFormat1IsCountedBeforeItsUpgrade: a skip counts the same before and after the
// upgrade. A refused skip does not upgrade the store.
func TestAStoreOfFormat1IsCountedBeforeItsUpgrade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := archive.Unpack("../../testdata/format1/store.tar.gz", dir); err != nil {
		t.Fatal(err)
	}
	verified := func(want string) {
		t.Helper()
		out, status := tool(t, "verify", "--data-dir", dir)
		if status != 0 || !strings.Contains(out, want) || !strings.Contains(out, "dead letters     12\n") {
			t.Errorf("verify ends with %d, want %q and 12 dead letters:\n%s", status, want, out)
		}
	}
	verified("format           1\n")
	for _, to := range []string{"30", "77", "83"} {
		if out, status := tool(t, "drain", "skip", "--to="+to, "--yes", "--data-dir", dir); status != 2 || !strings.Contains(out, "which is 77, and at most 82") {
			t.Errorf("a skip to %s ends with %d: %s", to, status, out)
		}
	}
	verified("format           1\n") // the refused skips upgraded nothing
	want := skipped{Position: 77, To: 80, End: 82, Waiting: 5, Forgotten: 3}
	if got := skip(t, dir, "--to", "80"); got != want {
		t.Errorf("a skip counts %+v, want %+v", got, want)
	}
	want.Changed = true
	if got := skip(t, dir, "--to", "80", "--yes"); got != want {
		t.Errorf("a skip did %+v, want %+v", got, want)
	}
	verified("format           2\n")
	if got, want := skip(t, dir, "--to", "now"), (skipped{Position: 80, To: 82, End: 82, Waiting: 2, Forgotten: 2}); got != want {
		t.Errorf("after it a skip counts %+v, want %+v", got, want)
	}
}
