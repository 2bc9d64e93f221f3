package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testCodec() Codec {
	return Codec{
		Inspect: func([]byte) (RecordInfo, error) { return RecordInfo{}, nil },
		Lost:    func(time.Time) []byte { return []byte("lost") },
		Narrow:  func(record []byte, _ uint32) ([]byte, error) { return record, nil },
	}
}

// TestRepairThatWasCutOffGoesOn stops a repair at each of its steps: until its
// note is there the store is as it was, from then on no service starts, and the
// next repair ends it.
func TestRepairThatWasCutOffGoesOn(t *testing.T) {
	for moved := range 4 {
		dir := filepath.Join(t.TempDir(), "data")
		s := openDisk(t, dir)
		fill(t, s, 20)
		closeStore(t, s)
		if err := os.Truncate(filepath.Join(dir, controlName), 5000); err != nil {
			t.Fatal(err)
		}
		config := CheckConfig{Dir: dir, Codec: testCodec()}
		r := &repairer{config: config, done: &Repaired{}, store: newVerifier(config, &Report{}).store}
		if err := r.build(); err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(dir, r.done.Aside)
		for _, move := range [][2]string{
			{filepath.Join(dir, messagesDir), filepath.Join(aside, messagesDir)},
			{filepath.Join(dir, repairedDir), filepath.Join(dir, messagesDir)},
			{filepath.Join(dir, controlName), filepath.Join(aside, controlName)},
		}[:moved] {
			if err := os.Rename(move[0], move[1]); err != nil {
				t.Fatal(err)
			}
		}
		wantRefused(t, dir, ErrDamaged)
		report, err := Verify(config)
		if err != nil || !strings.Contains(report.Problems[0].What, "cut off") {
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
		closeStore(t, s)
		for _, name := range []string{messagesDir, controlName} {
			if _, err := os.Stat(filepath.Join(aside, name)); err != nil {
				t.Errorf("after %d moves: %v", moved, err)
			}
		}
	}
}

func TestRepairLeavesAWholeStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	fill(t, s, 20)
	config := CheckConfig{Dir: dir, Codec: testCodec()}
	if _, err := Repair(config); !errors.Is(err, ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	closeStore(t, s)
	done, err := Repair(config)
	if err != nil || done.Aside != "" || done.Before.Found > 0 {
		t.Errorf("%+v (%v)", done, err)
	}
}
