package repair

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

// TestRepairThatWasCutOffGoesOn interrupts a repair after each of its moves. No service
// starts then, and the next repair finishes.
func TestRepairThatWasCutOffGoesOn(t *testing.T) {
	for moved := range 4 {
		dir := filepath.Join(t.TempDir(), "data")
		s := openDisk(t, dir)
		storagetest.Fill(t, s, 20)
		storagetest.Close(t, s)
		if err := os.Truncate(filepath.Join(dir, layout.ControlName), 5000); err != nil {
			t.Fatal(err)
		}
		config := fsck.Config{Dir: dir, Codec: storagetest.Codec()}
		r := newRepairer(config, &Repaired{})
		if err := r.build(); err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(dir, r.done.Quarantine)
		for _, move := range [][2]string{
			{filepath.Join(dir, layout.MessagesDir), filepath.Join(aside, layout.MessagesDir)},
			{filepath.Join(dir, repairedDir), filepath.Join(dir, layout.MessagesDir)},
			{filepath.Join(dir, layout.ControlName), filepath.Join(aside, layout.ControlName)},
		}[:moved] {
			if err := os.Rename(move[0], move[1]); err != nil {
				t.Fatal(err)
			}
		}
		wantRefused(t, dir, layout.ErrCorrupt)
		report, err := fsck.Verify(config)
		if err != nil || !strings.Contains(report.Problems[0].What, "interrupted") {
			t.Errorf("%+v (%v)", report, err)
		}
		done, err := Repair(config)
		if err != nil || done.After.Found > 0 {
			t.Fatalf("after %d moves: %+v (%v)", moved, done.After, err)
		}
		s = openDisk(t, dir)
		if s.Meta().Last != 20 {
			t.Errorf("after %d moves: %+v", moved, s.Meta())
		}
		storagetest.Close(t, s)
		for _, name := range []string{layout.MessagesDir, layout.ControlName} {
			if _, err := os.Stat(filepath.Join(aside, name)); err != nil {
				t.Errorf("after %d moves: %v", moved, err)
			}
		}
	}
}

func TestRepairLeavesAWholeStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 20)
	config := fsck.Config{Dir: dir, Codec: storagetest.Codec()}
	if _, err := Repair(config); !errors.Is(err, layout.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	storagetest.Close(t, s)
	done, err := Repair(config)
	if err != nil || done.Quarantine != "" || done.Before.Found > 0 {
		t.Errorf("%+v (%v)", done, err)
	}
}
