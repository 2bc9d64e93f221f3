package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/repair"
	"github.com/stayafrica/messaging/wal"
)

// contents is the contents of a store, for comparison.
type contents struct {
	bodies    map[uint64]string // every message of the log by its sequence
	records   map[uint64]string // the same, with all fields besides the body
	receivers map[uint64]string // of broadcasts
	queues    map[messaging.UserID][]uint64
	entries   map[string]storage.Entry // of the queues
	keys      map[string]storage.IdempotencyRecord
	letters   map[string]string
	position  messaging.Position
}

func (d *realDisk) contents() contents {
	d.Helper()
	c, err := contentsOf(d.store)
	if err != nil {
		d.Fatal(err)
	}
	return c
}

func contentsOf(store *storage.Store) (contents, error) {
	c := contents{
		bodies: make(map[uint64]string), records: make(map[uint64]string), receivers: make(map[uint64]string),
		queues: make(map[messaging.UserID][]uint64), entries: make(map[string]storage.Entry),
		keys: make(map[string]storage.IdempotencyRecord), letters: make(map[string]string),
	}
	first := store.Meta().FirstSequence
	return c, errors.Join(
		store.Records(first, ^uint64(0), func(seq uint64, raw []byte) (bool, error) { return true, c.record(store, seq, raw) }),
		c.queued(store), c.readKeys(store), c.failed(store),
	)
}

func (c *contents) record(store *storage.Store, seq uint64, raw []byte) error {
	record, err := wal.DecodeRecord(raw)
	if err != nil {
		return fmt.Errorf("%w: record %d: %w", storage.ErrCorrupt, seq, err)
	}
	if record.Lost {
		return nil
	}
	c.bodies[seq], c.records[seq] = string(record.Message.Body), string(raw)
	for n := uint32(0); n < record.Recipients; n += messaging.ReceiversPerChunk {
		receivers, err := store.Receivers(record.Message.ID, n/messaging.ReceiversPerChunk)
		if err != nil {
			return fmt.Errorf("%w: receivers of %d: %w", storage.ErrCorrupt, seq, err)
		}
		c.receivers[seq] += fmt.Sprint(receivers)
	}
	return nil
}

func (c *contents) queued(store *storage.Store) error {
	var errs []error
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		errs = append(errs, store.AllEntries(index, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			c.queues[user] = append(c.queues[user], seq)
			e, ok, err := store.Entry(index, user, p, seq)
			if !ok {
				err = errors.Join(err, storage.ErrNotFound)
			}
			errs = append(errs, err)
			c.entries[fmt.Sprintf("%c %s %d %d", index, user, p, seq)] = e
			return true
		}))
	}
	return errors.Join(errs...)
}

func (c *contents) readKeys(store *storage.Store) error {
	ends, err := store.IdempotencyExpiries(0, 1<<50, 1<<20)
	errs := []error{err}
	for _, end := range ends {
		o, ok, err := store.IdempotencyRecord(end.Scope, end.Key)
		if !ok {
			err = errors.Join(err, storage.ErrNotFound)
		}
		errs = append(errs, err)
		c.keys[end.Key] = o
	}
	return errors.Join(errs...)
}

func (c *contents) failed(store *storage.Store) (err error) {
	if c.position, err = store.Position(); err != nil {
		return err
	}
	letters := engine.DeadLetterReader{Store: store.Reader}
	for filter := (messaging.DeadLetterFilter{Limit: 100}); ; {
		page, err := letters.ListDeadLetters(filter)
		for i := range page.DeadLetters {
			d := &page.DeadLetters[i]
			recipients, err := letters.DeadRecipients(d, "", 1000)
			c.letters[d.ID] = fmt.Sprintf("%+v %+v", *d, recipients)
			if err != nil {
				return err
			}
		}
		if filter.After = page.Next; filter.After == "" || err != nil {
			return err
		}
	}
}

// layers creates a store with tables and a write-ahead log with data, and returns its
// contents.
func layers(t *testing.T) (dir string, whole contents) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	d := mustOpenDisk(t, dir)
	d.fillWhole()
	d.close()
	d = mustOpenDisk(t, dir) // the data of the log is in a table now
	for i := range 40 {
		d.send(fmt.Sprint("n", i%3), "", "")
	}
	whole = d.contents()
	d.close()
	return dir, whole
}

// newest returns the file with the highest number.
func newest(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s (%v)", pattern, err)
	}
	return slices.Max(names)
}

func largest(t *testing.T, pattern string) (path string) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s (%v)", pattern, err)
	}
	size := int64(-1)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			path, size = name, info.Size()
		}
	}
	return path
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x40
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestRepairKeepsIntactData corrupts a store in many ways. Each corruption is found.
// After a repair the store is consistent, has nothing that it did not have before, and
// lacks at most what the corruption destroyed.
func TestRepairKeepsIntactData(t *testing.T) {
	tables, logs := filepath.Join("messages", "*.sst"), filepath.Join("messages", "*.log")
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		// lost is how many messages may be missing.
		lost int
	}{
		"the manifest is gone":          {func(t *testing.T, dir string) { t.Helper(); remove(t, newest(t, dir+"/messages/MANIFEST-*")) }, 0},
		"the manifest is damaged":       {func(t *testing.T, dir string) { t.Helper(); flip(t, newest(t, dir+"/messages/MANIFEST-*"), 30) }, 0},
		"the log is gone":               {func(t *testing.T, dir string) { t.Helper(); remove(t, newest(t, filepath.Join(dir, logs))) }, 40},
		"the log is damaged":            {func(t *testing.T, dir string) { t.Helper(); flip(t, newest(t, filepath.Join(dir, logs)), 700) }, 2},
		"a table is gone":               {func(t *testing.T, dir string) { t.Helper(); remove(t, largest(t, filepath.Join(dir, tables))) }, 74},
		"a table is damaged":            {func(t *testing.T, dir string) { t.Helper(); flip(t, largest(t, filepath.Join(dir, tables)), 20_000) }, 74},
		"the end of a table is damaged": {func(t *testing.T, dir string) { t.Helper(); flip(t, largest(t, filepath.Join(dir, tables)), -5) }, 74},
		"the control file is gone":      {func(t *testing.T, dir string) { t.Helper(); remove(t, dir+"/control.db") }, 0},
		"the control file is cut": {func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Truncate(dir+"/control.db", 5000); err != nil {
				t.Fatal(err)
			}
		}, 0},
		"all messages are gone": {func(t *testing.T, dir string) { t.Helper(); remove(t, dir+"/messages") }, 114},
	} {
		t.Run(name, func(t *testing.T) {
			dir, whole := layers(t)
			c.damage(t, dir)
			report, err := fsck.Verify(checkConfig(dir))
			if err != nil || report.Found == 0 {
				t.Fatalf("the damage is not found (%v)", err)
			}
			// A service that is started in between is refused, or there is nothing to
			// repair. It must not do further harm.
			serveFor(t, dir, name)
			done, err := repair.Repair(checkConfig(dir))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("lost %v, changes %q, quarantine %s", done.Lost, done.Changes, done.Quarantine)
			for _, p := range done.After.Problems {
				t.Errorf("after the repair: %s %s", p.Where, p.What)
			}
			wantClean(t, dir)
			d := mustOpenDisk(t, dir)
			defer d.close()
			wantKept(t, whole, d.contents(), c.lost)
			if next := d.send("u0", "", ""); next.Sequence != uint64(len(whole.bodies)+1) {
				t.Errorf("the next sequence is %d, although %d were assigned", next.Sequence, len(whole.bodies))
			}
		})
	}
}

func wantKept(t *testing.T, whole, kept contents, lost int) {
	t.Helper()
	for seq, body := range kept.bodies {
		if whole.bodies[seq] != body {
			t.Errorf("message %d is %q, and was %q", seq, body, whole.bodies[seq])
		}
	}
	if missing := len(whole.bodies) - len(kept.bodies); missing > lost {
		t.Errorf("%d messages are missing of %d, of which the damage took %d at most", missing, len(whole.bodies), lost)
	}
	for user, queue := range whole.queues {
		for _, seq := range queue {
			if _, there := kept.bodies[seq]; there && lost == 0 && !slices.Contains(kept.queues[user], seq) {
				t.Errorf("message %d is not in the queue of %s any more", seq, user)
			}
		}
	}
	for id, letter := range kept.letters {
		if whole.letters[id] != letter {
			t.Errorf("dead letter %s is %s, and was %s", id, letter, whole.letters[id])
		}
	}
	if lost == 0 && len(kept.letters) != len(whole.letters) {
		t.Errorf("%d dead letters are left of %d", len(kept.letters), len(whole.letters))
	}
	if kept.position.Sequence > whole.position.Sequence || (lost == 0 && kept.position != whole.position) {
		t.Errorf("the drain is at %v, and was at %v", kept.position, whole.position)
	}
}
