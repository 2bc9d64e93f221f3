package repair

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

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

// TestRepairRefusesNewerFormats shows that a newer program's format is not damage. A
// repair by this program would lose what it does not know.
func TestRepairRefusesNewerFormats(t *testing.T) {
	controlIsNewer := filled(t, nil)
	storagetest.SetFormat(t, controlIsNewer, layout.Format+1)
	messagesAreNewer := filled(t, nil)
	marker, err := filepath.Glob(filepath.Join(messagesAreNewer, layout.MessagesDir, pebbledb.FormatMarker+"*"))
	if err != nil || len(marker) != 1 {
		t.Fatalf("%v (%v)", marker, err)
	}
	if err := os.Rename(marker[0], strings.TrimSuffix(marker[0], filepath.Ext(marker[0]))+".099"); err != nil {
		t.Fatal(err)
	}
	for what, dir := range map[string]string{"the control file": controlIsNewer, "the messages": messagesAreNewer} {
		before := names(t, dir)
		if _, err := Repair(repairConfig(dir)); !errors.Is(err, layout.ErrFormat) {
			t.Errorf("a repair where %s: %v", what, err)
		}
		if after := names(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: the directory had %v, and now has %v", what, before, after)
		}
		wantRefused(t, dir, layout.ErrFormat)
	}
}

// TestRepairsWithinASecondKeepTheFilesOfEach shows that a repair does not overwrite
// quarantined files.
func TestRepairsWithinASecondKeepTheFilesOfEach(t *testing.T) {
	dir := filled(t, nil)
	seen := make(map[string]bool)
	for range 3 {
		if err := os.Truncate(filepath.Join(dir, layout.ControlName), 5000); err != nil {
			t.Fatal(err)
		}
		done, err := Repair(repairConfig(dir))
		if err != nil || done.After.Found > 0 || seen[done.Quarantine] {
			t.Fatalf("%+v (%v)", done, err)
		}
		seen[done.Quarantine] = true
		if aside := names(t, filepath.Join(dir, done.Quarantine)); !slices.Equal(aside, []string{layout.ControlName, layout.MessagesDir}) {
			t.Errorf("%s has %v", done.Quarantine, aside)
		}
	}
}

// TestRepairEndsWhereTheDiskFillsUp shows that a repair ends when the disk fills up,
// where Pebble would wait for space forever. It removes its new files, the store is
// unchanged, and with free space the repair succeeds.
func TestRepairEndsWhereTheDiskFillsUp(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=128m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	whole := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, whole)
	storagetest.Fill(t, s, 5000)
	storagetest.Close(t, s)
	dir := filepath.Join(disk, "data")
	if err := errors.Join(os.Remove(filepath.Join(whole, layout.BallastName)), os.CopyFS(dir, os.DirFS(whole)), os.Truncate(filepath.Join(dir, layout.ControlName), 5000)); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	rest, config := filepath.Join(disk, "rest"), repairConfig(dir)
	config.Progress = func(uint64, uint64) {
		if _, err := os.Stat(filepath.Join(dir, repairedDir)); err == nil {
			free, err := layout.Free(dir)
			if err = errors.Join(err, os.WriteFile(rest, make([]byte, free-repairSpace/4), 0o600)); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Repair(config); !errors.Is(err, layout.ErrDiskFull) {
		t.Errorf("a disk that fills up: %v", err)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the directory had %v, and now has %v", before, after)
	}
	config.Progress = nil
	if _, err := Repair(config); !errors.Is(err, layout.ErrDiskFull) {
		t.Errorf("a full disk: %v", err)
	}
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	if done, err := Repair(config); err != nil || done.After.Found > 0 || done.After.Records != 5000 {
		t.Errorf("with free space: %+v (%v)", done.After, err)
	}
}
