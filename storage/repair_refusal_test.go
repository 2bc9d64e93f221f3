package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func repairConfig(dir string) CheckConfig { return CheckConfig{Dir: dir, Codec: testCodec()} }

// filled is a store of some records that nobody has open.
func filled(t *testing.T, change func(s *Store)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	fill(t, s, 20)
	if change != nil {
		change(s)
	}
	closeStore(t, s)
	return dir
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRepairMakesNoStoreWhereThereIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := Repair(repairConfig(dir)); err == nil || !strings.Contains(err.Error(), "no store") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := Repair(repairConfig(filepath.Join(dir, "none"))); err == nil || !strings.Contains(err.Error(), "no store") {
		t.Errorf("no directory: %v", err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("it made %v", left)
	}
}

// TestRepairRefusesNewerFormats: what a newer program wrote is no damage, and made
// anew by this one it would lose what this one does not know.
func TestRepairRefusesNewerFormats(t *testing.T) {
	controlIsNewer := filled(t, func(s *Store) {
		id, err := s.control.identity()
		if err != nil {
			t.Fatal(err)
		}
		err = s.control.file.Update(func(tx ControlTx) error {
			return putState(tx, keyIdentity, append([]byte{0, 0, 0, Format + 1}, id.storeID[:]...))
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	messagesAreNewer := filled(t, nil)
	marker, err := filepath.Glob(filepath.Join(messagesAreNewer, messagesDir, formatMarker+"*"))
	if err != nil || len(marker) != 1 {
		t.Fatalf("%v (%v)", marker, err)
	}
	if err := os.Rename(marker[0], strings.TrimSuffix(marker[0], filepath.Ext(marker[0]))+".099"); err != nil {
		t.Fatal(err)
	}
	for what, dir := range map[string]string{"the control file": controlIsNewer, "the messages": messagesAreNewer} {
		before := names(t, dir)
		if _, err := Repair(repairConfig(dir)); !errors.Is(err, ErrFormat) {
			t.Errorf("a repair where %s: %v", what, err)
		}
		if after := names(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: there were %v, and are %v", what, before, after)
		}
		wantRefused(t, dir, ErrFormat)
	}
}

// TestRepairsWithinASecondKeepTheFilesOfEach: nothing that was put aside is
// overwritten.
func TestRepairsWithinASecondKeepTheFilesOfEach(t *testing.T) {
	dir := filled(t, nil)
	seen := make(map[string]bool)
	for range 3 {
		if err := os.Truncate(filepath.Join(dir, controlName), 5000); err != nil {
			t.Fatal(err)
		}
		done, err := Repair(repairConfig(dir))
		if err != nil || done.After.Found > 0 || seen[done.Aside] {
			t.Fatalf("%+v (%v)", done, err)
		}
		seen[done.Aside] = true
		if aside := names(t, filepath.Join(dir, done.Aside)); !slices.Equal(aside, []string{controlName, messagesDir}) {
			t.Errorf("%s has %v", done.Aside, aside)
		}
	}
}

// TestVerifyMakesNoLock: where the library's lock file is gone with others, a check
// does not bring it back.
func TestVerifyMakesNoLock(t *testing.T) {
	dir := filled(t, nil)
	lock := filepath.Join(dir, messagesDir, "LOCK")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(repairConfig(dir)); err != nil || report.Found > 0 {
		t.Errorf("%+v (%v)", report, err)
	}
	if _, err := os.Stat(lock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}

// TestVerifyTablesWaitsForOneThatIsBeingWritten: half a table is no damage while
// it grows.
func TestVerifyTablesWaitsForOneThatIsBeingWritten(t *testing.T) {
	dir := filled(t, func(s *Store) {
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	})
	table := newestFile(t, filepath.Join(dir, messagesDir, "*.sst"))
	whole, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	growing := filepath.Join(dir, messagesDir, "999999.sst")
	if err := os.WriteFile(growing, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() {
		time.Sleep(3 * tableAgain)
		written <- os.WriteFile(growing, whole, 0o600)
	}()
	tables, report, err := VerifyTables(dir, nil)
	if err != nil || report.Found > 0 || tables < 2 {
		t.Errorf("%d tables: %+v (%v)", tables, report, err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(growing, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(growing, time.Time{}, time.Now().Add(-2*tableSettled)); err != nil {
		t.Fatal(err)
	}
	if _, report, err := VerifyTables(dir, nil); err != nil || report.Found != 1 {
		t.Errorf("half a table that is old: %+v (%v)", report, err)
	}
}

// TestRepairEndsWhereTheDiskFillsUp: the library would wait for room for ever. What
// was made so far goes, the store is as it was, and with room it is repaired.
func TestRepairEndsWhereTheDiskFillsUp(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=128m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	whole := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, whole)
	fill(t, s, 5000)
	closeStore(t, s)
	dir := filepath.Join(disk, "data")
	if err := errors.Join(os.Remove(filepath.Join(whole, reserveName)), os.CopyFS(dir, os.DirFS(whole)), os.Truncate(filepath.Join(dir, controlName), 5000)); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	rest, config := filepath.Join(disk, "rest"), repairConfig(dir)
	config.Progress = func(uint64, uint64) {
		if _, err := os.Stat(filepath.Join(dir, repairedDir)); err == nil {
			free, err := Free(dir)
			if err = errors.Join(err, os.WriteFile(rest, make([]byte, free-repairRoom/4), 0o600)); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Repair(config); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a disk that fills up: %v", err)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("there were %v, and are %v", before, after)
	}
	config.Progress = nil
	if _, err := Repair(config); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a full disk: %v", err)
	}
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	if done, err := Repair(config); err != nil || done.After.Found > 0 || done.After.Records != 5000 {
		t.Errorf("with room: %+v (%v)", done.After, err)
	}
}

// TestWhatTheLibraryDoesNotCallCorruptionIsDamageToo: so that a start ends with the
// status of a damaged store.
func TestWhatTheLibraryDoesNotCallCorruptionIsDamageToo(t *testing.T) {
	for pattern, cut := range map[string]func(b []byte) int{
		"*.sst":     func(b []byte) int { return len(b) / 2 },
		"OPTIONS-*": func(b []byte) int { return bytes.Index(b, []byte("Comparator")) }, // within a name
	} {
		dir := filled(t, func(s *Store) {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		})
		name := newestFile(t, filepath.Join(dir, messagesDir, pattern))
		b, err := os.ReadFile(name)
		if err = errors.Join(err, os.Truncate(name, int64(cut(b)))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s is cut: %v", pattern, err)
		}
	}
}
