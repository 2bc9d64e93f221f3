package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/bbolt"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/archive"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// format1Store unpacks a store written by a program of format 1.
func format1Store(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := archive.Unpack("../testdata/format1/store.tar.gz", dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lettersOf describes everything that an upgrade moves, as a store has it.
func lettersOf(t *testing.T, s *Store) string {
	t.Helper()
	var lines []string
	counts := make(map[messaging.DeadLetterKind]uint64)
	err := s.LetterIDs(schema.LetterID{}, func(id schema.LetterID, k schema.LetterKey) bool {
		l, ok, err := s.Letter(k)
		m, hasMessage, messageErr := s.LetterMessage(k.Message())
		if err = errors.Join(err, messageErr); err != nil || !ok || !hasMessage {
			t.Errorf("%s: %t %t (%v)", id, ok, hasMessage, err)
			return true
		}
		counts[k.Kind]++
		if m.Copy {
			m = m.CopyTo(l.Number, l.Named)
		}
		line := fmt.Sprintf("%s %s %d %d %d %d %s:", id, l.Reason, l.StatusCode, l.Attempts, l.FailedAt.UnixNano(), l.LastFailedAt.UnixNano(), m.AppendJSON(nil))
		err = s.LetterRecipients(k, "", func(user messaging.UserID, r schema.LetterRecipient) bool {
			line += fmt.Sprintf(" %s %d %t %d", user, r.Number, r.Quoted, r.Attempts)
			return true
		})
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, line)
		return true
	})
	if err != nil {
		t.Error(err)
	}
	for _, kind := range schema.LetterKinds() {
		if n, err := s.LetterCount(kind); err != nil || n != counts[kind] {
			t.Errorf("%d letters are counted as %s (%v), and %d are there", n, kind, err, counts[kind])
		}
	}
	return strings.Join(append(lines, restOf(t, s)...), "\n")
}

// restOf describes the jobs and the position.
func restOf(t *testing.T, s *Store) (lines []string) {
	t.Helper()
	jobs, err := s.Jobs()
	if err != nil {
		t.Error(err)
	}
	for id, j := range jobs {
		lines = append(lines, fmt.Sprintf("%s %t %s", id, j.Ended, j.Record))
	}
	slices.Sort(lines)
	p, err := s.Position()
	if err != nil {
		t.Error(err)
	}
	return append(lines, fmt.Sprint(p))
}

// lettersOfFormat1 describes the same data of a control file of format 1.
func lettersOfFormat1(t *testing.T, dir string) string {
	t.Helper()
	s, err := OpenToRead(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer storagetest.Close(t, s)
	var lines []string
	err = format1.NewReader(s.controlFile).Letters(func(l *format1.Letter, recipients map[messaging.UserID]schema.LetterRecipient) error {
		m := l.DeadMessage()
		line := fmt.Sprintf("%s %s %d %d %d %d %s:", l.ID, l.Reason, l.StatusCode, l.Attempts, l.FailedAt.UnixNano(), latest(l).UnixNano(), m.AppendJSON(nil))
		users := make([]messaging.UserID, 0, len(recipients))
		for user := range recipients {
			users = append(users, user)
		}
		slices.SortFunc(users, schema.CompareUsers)
		for _, user := range users {
			line += fmt.Sprintf(" %s %d %t %d", user, recipients[user].Number, recipients[user].Quoted, l.Attempts)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(lines, restOf(t, s)...), "\n")
}

// controlValues returns all values of a control file, by bucket and key.
func controlValues(t *testing.T, dir string) map[string]map[string][]byte {
	t.Helper()
	values := make(map[string]map[string][]byte)
	db, err := bbolt.Open(filepath.Join(dir, layout.ControlName), 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			values[string(name)] = make(map[string][]byte)
			return b.ForEach(func(key, value []byte) error {
				values[string(name)][string(key)] = slices.Clone(value)
				return nil
			})
		})
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return values
}

// controlCells returns the values of controlValues by cell.
func controlCells(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	cells := make(map[string][]byte)
	for bucket, values := range controlValues(t, dir) {
		for key, value := range values {
			cells[cell(bucket, key)] = value
		}
	}
	return cells
}

func cell(bucket, key string) string { return bucket + "\x00" + key }

// inMemory copies a store to an in-memory disk that can crash.
func inMemory(t *testing.T, dir string) (*vfs.MemFS, *controlfile.Memory) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	if ok, err := vfs.Clone(vfs.Default, disk, dir, "/data", vfs.CloneSync); err != nil || !ok {
		t.Fatal(ok, err)
	}
	for _, dir := range []string{"/", "/data", "/data/messages"} {
		d, err := disk.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return disk, controlfile.MemoryOf(controlValues(t, dir))
}

// changeControl changes the control file of a closed store.
func changeControl(t *testing.T, dir string, change func(tx controlfile.Tx) error) {
	t.Helper()
	file, err := controlfile.Open(filepath.Join(dir, layout.ControlName))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Update(change), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// changeMessages changes the database of a closed store, without opening the store.
func changeMessages(t *testing.T, dir string, change func(b *Batch, meta schema.Meta)) {
	t.Helper()
	s := newStore(Config{Dir: dir, MemTableBytes: 1 << 20})
	s.full.opening.Store(true)
	var err error
	if s.db, err = s.openPebble(s.path(layout.MessagesDir), pebbledb.Open); err != nil {
		t.Fatal(err)
	}
	if err := s.held.Release(); err != nil {
		t.Fatal(err)
	}
	meta, err := tables.ReadMeta(s.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch()
	change(b, meta)
	b.Commit()
	b.Close()
	storagetest.Close(t, s)
}

// known returns the problems without those about receivers: the codec of these tests
// decodes no record as a broadcast.
func known(report fsck.Report) []fsck.Problem {
	return slices.DeleteFunc(report.Problems, func(p fsck.Problem) bool { return strings.HasPrefix(p.Where, "receivers of broadcast") })
}

// wantWhole checks that the store of format 1, or its upgrade, has no problems.
func wantWhole(t *testing.T, dir string, format uint32) {
	t.Helper()
	report, err := fsck.Verify(checkConfig(dir))
	if err != nil || report.Format != format || report.DeadLetters != 12 {
		t.Errorf("format %d, %d dead letters (%v)", report.Format, report.DeadLetters, err)
	}
	for _, p := range known(report) {
		t.Errorf("%s: %s", p.Where, p.What)
	}
}

// latest returns when the latest recipient of a letter failed.
func latest(l *format1.Letter) time.Time {
	if l.FailedAt.After(l.LatestAt) {
		return l.FailedAt
	}
	return l.LatestAt
}

// checkConfig returns the configuration to check or repair a store of these tests.
func checkConfig(dir string) fsck.Config { return fsck.Config{Dir: dir, Codec: storagetest.Codec()} }
