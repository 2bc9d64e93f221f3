package storage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
	"github.com/stayafrica/messaging/storage/repair"
)

// spoil1 changes one value of the control file of a store of format 1, and returns its
// key.
func spoil1(t *testing.T, dir, bucket string, change func(key string) []byte) (key string) {
	t.Helper()
	changeControl(t, dir, func(tx controlfile.Tx) error {
		tx.Scan(bucket, "", func(name string, _ []byte) bool {
			key = name
			return key == ""
		})
		return tx.Put(bucket, key, change(key))
	})
	return key
}

// Damage in a control file of format 1 that prevents its upgrade is found by a check. A
// start refuses it and changes nothing. A repair drops it, keeps the rest and makes a
// store of the current format.
func TestDamageInAStoreOfFormat1IsFoundAndRepaired(t *testing.T) {
	for name, d := range map[string]struct {
		bucket string
		change func(key string) []byte
		found  string
		lines  int // number of letters and jobs that a repair keeps
		told   string
	}{
		"a letter's checksum": {controlfile.Format1Letters, func(string) []byte { return []byte("rubbish") }, "checksum does not match", 16, "unreadable dead letters: 1"},
		"a letter that is no letter": {
			controlfile.Format1Letters, func(key string) []byte {
				return controlfile.AppendChecksum(controlfile.Format1Letters, key, []byte("{}"))
			}, "dead letter refused-", 16,
			"unreadable dead letters: 1",
		},
		"a recipient's checksum": {controlfile.Format1LetterReceivers, func(string) []byte { return []byte("rubbish") }, "checksum does not match", 16, "unreadable dead letters: 1"},
		"a recipient that is none": {
			controlfile.Format1LetterReceivers, func(key string) []byte {
				return controlfile.AppendChecksum(controlfile.Format1LetterReceivers, key, []byte("xyz"))
			}, "a recipient of refused-", 16,
			"unreadable dead letters: 1",
		},
		"a job's checksum":   {controlfile.Format1Jobs, func(string) []byte { return []byte("rubbish") }, "checksum does not match", 16, ""},
		"a job that is none": {controlfile.Format1Jobs, func(key string) []byte { return controlfile.AppendChecksum(controlfile.Format1Jobs, key, []byte("[]")) }, "job 01a2234f-11b5", 16, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := format1Store(t)
			spoil1(t, dir, d.bucket, d.change)
			report, err := fsck.Verify(checkConfig(dir))
			if problems := known(report); err != nil || len(problems) != 1 || problems[0].Where != layout.ControlName || !strings.Contains(problems[0].What, d.found) {
				t.Errorf("a check finds %+v (%v), want %q", problems, err, d.found)
			}
			cells := controlCells(t, dir)
			if _, err := Open(Config{Dir: dir, MemTableBytes: 1 << 20}); !errors.Is(err, layout.ErrCorrupt) || !strings.Contains(err.Error(), "messaging repair") {
				t.Errorf("a start returns %v", err)
			}
			for name, value := range controlCells(t, dir) {
				if string(cells[name]) != string(value) {
					t.Errorf("a start has changed %q", name)
				}
			}
			done, err := repair.Repair(checkConfig(dir))
			if problems := known(done.After); err != nil || len(problems) > 0 || done.After.Format != layout.Format {
				t.Fatalf("after the repair: %+v, format %d (%v)", problems, done.After.Format, err)
			}
			if d.told != "" && !slices.Contains(done.Changes, d.told) {
				t.Errorf("the repair reports %q, want %q", done.Changes, d.told)
			}
			s := openDisk(t, dir)
			defer storagetest.Close(t, s)
			got := lettersOf(t, s)
			if n := strings.Count(got, "\n"); n != d.lines {
				t.Errorf("%d letters and jobs are left, want %d:\n%s", n, d.lines, got)
			}
		})
	}
}

// A repair keeps the copies of an interrupted upgrade if the control file is lost
// afterwards.
func TestARepairKeepsWhatAnUpgradeHasCopied(t *testing.T) {
	dir := format1Store(t)
	want := lettersOfFormat1(t, dir)
	s := openDisk(t, dir)
	if got := lettersOf(t, s); got != want {
		t.Fatalf("it has\n%s", got)
	}
	storagetest.Close(t, s)
	// The old meta record, as if the upgrade was interrupted before it wrote the new one.
	changeMessages(t, dir, func(b *Batch, meta schema.Meta) {
		value := make([]byte, schema.MetaLen)
		meta.Encode(value)
		value[0] = layout.Format1
		tables.Set(b, []byte{schema.TableMeta}, value)
	})
	if err := os.Truncate(filepath.Join(dir, layout.ControlName), 0); err != nil {
		t.Fatal(err)
	}
	done, err := repair.Repair(checkConfig(dir))
	if err != nil || len(known(done.After)) > 0 {
		t.Fatalf("%+v (%v)", done, err)
	}
	s = openDisk(t, dir)
	defer storagetest.Close(t, s)
	if got := lettersOf(t, s); got != want {
		t.Errorf("it has\n%s, want\n%s", got, want)
	}
}
