package engine_test

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
)

// fingerprint returns the checksums of everything in a directory.
func fingerprint(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	sums := make(map[string][sha256.Size]byte)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sums[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func wholeStore(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	d := mustOpenDisk(t, dir)
	d.fillWhole()
	d.close()
	return dir
}

func wantClean(t *testing.T, dir string) fsck.Report {
	t.Helper()
	report, err := fsck.Verify(checkConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("%s: %s", p.Where, p.What)
	}
	return report
}

func TestVerifyOfAnIntactStoreChangesNothing(t *testing.T) {
	dir := wholeStore(t)
	before := fingerprint(t, dir)
	report := wantClean(t, dir)
	if report.Records != 74 || report.Broadcasts != 2 || report.DeadLetters != 2 || report.Last != 74 ||
		report.Entries == 0 || report.Users < messaging.ReceiversPerChunk {
		t.Errorf("%+v", report)
	}
	after := fingerprint(t, dir)
	for path, sum := range before {
		if after[path] != sum {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("there were %d files before and %d after", len(before), len(after))
	}
	if tables, online, err := fsck.VerifyTables(dir, nil); err != nil || online.Found > 0 || tables == 0 {
		t.Errorf("%d tables: %+v (%v)", tables, online, err)
	}
	mustOpenDisk(t, dir).close()
}

func TestVerifyRefusesAStoreInUse(t *testing.T) {
	dir := t.TempDir()
	d := mustOpenDisk(t, dir)
	defer d.close()
	if _, err := fsck.Verify(checkConfig(dir)); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("%v", err)
	}
	if _, err := fsck.Verify(checkConfig(t.TempDir())); err == nil || !strings.Contains(err.Error(), "no store") {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestVerifyFindsContradictionsBetweenTables: each table is intact by its checksums, but the
// tables contradict each other.
func TestVerifyFindsContradictionsBetweenTables(t *testing.T) {
	for name, spoil := range map[string]func(b *storage.Batch){
		"queue of user u2":                     func(b *storage.Batch) { b.PutQueueState("u2", &storage.QueueState{}) },
		"entry of user u3 for message 4000":    func(b *storage.Batch) { b.PutEntry(storage.Queued, "u3", messaging.Low, 4000, storage.Entry{}) },
		"timer of user u9":                     func(b *storage.Batch) { b.PutTimer(storage.Due, storage.Timer{At: 5, Sequence: 5, User: "u9"}, 0) },
		"clear of user u9":                     func(b *storage.Batch) { b.PutClear(storage.Clear{User: "u9", UpTo: 4000}) },
		"fan-out of 4000":                      func(b *storage.Batch) { b.PutFanout(storage.Fanout{Sequence: 4000}) },
		"receivers of broadcast 09000000-0000": func(b *storage.Batch) { b.PutReceivers(messaging.MessageID{9}, 0, []byte{3, 'u'}) },
		"record 5":                             func(b *storage.Batch) { b.PutRecord(5, 3, func(dst []byte) { copy(dst, "xyz") }) },
		"table m (meta)":                       func(b *storage.Batch) { b.PutRecord(75, 3, func(dst []byte) { copy(dst, "xyz") }) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := wholeStore(t)
			d := mustOpenDisk(t, dir)
			b := d.store.NewBatch()
			spoil(b)
			b.Commit()
			b.Close()
			d.close()
			report, err := fsck.Verify(checkConfig(dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range report.Problems {
				if strings.HasPrefix(p.Where, name) {
					return
				}
			}
			t.Errorf("found only %+v", report.Problems)
		})
	}
}
