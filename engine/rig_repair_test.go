package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/repair"
)

// spoiled is a store to be corrupted in several places at once. It knows in which files
// each message is, so that it knows what a repair must keep.
type spoiled struct {
	*damaged

	in map[uint64][]string // the tables and logs that have a message
}

// newSpoiled creates the store of [newDamaged] with rare states in addition: a trimmed
// front, a broadcast during its fan-out, receivers of an uncommitted broadcast, and more
// tables.
func newSpoiled(tb testing.TB, stopped bool) *spoiled {
	tb.Helper()
	s := &damaged{dir: filepath.Join(tb.TempDir(), "data")}
	d := mustOpenDisk(tb, s.dir)
	d.fillSome()
	d.close()
	for range 3 {
		d = mustOpenDisk(tb, s.dir)
		for i := range 15 {
			d.send(fmt.Sprint("n", i%3), `,"priority":"low"`, "")
		}
		d.close()
	}
	d = mustOpenDisk(tb, s.dir)
	d.broadcast(2*messaging.ReceiversPerChunk + 5) // no fan-out runs
	d.leaveSome()
	for range 10 {
		d.send("end", "", "")
	}
	if stopped {
		d.saveWatermark()
	}
	mark, err := d.store.Control().Watermark()
	if err != nil {
		tb.Fatal(err)
	}
	s.mark, s.whole = mark.Sequence, d.contents()
	if stopped {
		d.close()
	} else if err := errors.Join(d.log.Close(), d.store.Close()); err != nil {
		tb.Fatal(err)
	}
	s.read(tb)
	sp := &spoiled{s, make(map[uint64][]string)}
	sp.locate(tb)
	return sp
}

// leaveSome creates the leftovers of a crash: staged receivers, and records before the
// front of the log.
func (d *realDisk) leaveSome() {
	d.Helper()
	b := d.store.NewBatch()
	defer b.Close()
	id := messaging.MessageID{7}
	b.PutStage(id)
	b.PutReceivers(id, 0, []byte{3, 'u'})
	b.PutRecord(0, 3, func(dst []byte) { copy(dst, "old") })
	b.Commit()
}

// isData reports whether a file can have messages.
func isData(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log")
}

// locate finds the files of each message. A repair finds the message if only these files
// are left.
func (s *spoiled) locate(tb testing.TB) {
	tb.Helper()
	for name := range s.files {
		if !isData(name) {
			continue
		}
		dir := filepath.Join(tb.TempDir(), "data")
		s.copyTo(tb, dir)
		for other := range s.files {
			if other != name && other != "control.db" {
				if err := os.Remove(filepath.Join(dir, other)); err != nil {
					tb.Fatal(err)
				}
			}
		}
		if _, err := repair.Repair(checkConfig(dir)); err != nil {
			tb.Fatal(err)
		}
		kept, err := readContents(dir)
		if err != nil {
			tb.Fatal(err)
		}
		for seq := range kept.bodies {
			s.in[seq] = append(s.in[seq], name)
		}
	}
}

// spoil corrupts some files at random, and returns their names.
func (s *spoiled) spoil(r *torture.Round, dir string) (names, what []string) {
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(s.files)), func(name string) bool {
		return strings.HasPrefix(name, "aside-") // a file that an earlier repair quarantined may be an original one
	})
	for range 1 + r.Rand.IntN(4) {
		name := all[r.Rand.IntN(len(all))]
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		at := 0
		if len(b) > 0 {
			at = r.Rand.IntN(len(b))
		}
		how := []string{"flip", "zero", "cut", "remove", "grow", "rubbish", "swap", "empty", "overwrite"}[r.Rand.IntN(9)]
		switch how {
		case "remove":
			err = os.Remove(path)
		case "swap":
			other := all[r.Rand.IntN(len(all))]
			if c, e := os.ReadFile(filepath.Join(dir, other)); e == nil {
				err = errors.Join(os.WriteFile(path, c, 0o600), os.WriteFile(filepath.Join(dir, other), b, 0o600))
				names = append(names, other)
				how += " with " + other
			}
		case "overwrite":
			other := all[r.Rand.IntN(len(all))]
			if b, err = os.ReadFile(filepath.Join(dir, other)); err == nil {
				err = os.WriteFile(path, b, 0o600)
			} else if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			how += " with " + other + ":"
		default:
			err = os.WriteFile(path, ruin(r, how, b, at), 0o600)
		}
		if err != nil {
			r.Fatal(err)
		}
		names, what = append(names, name), append(what, fmt.Sprintf("%s %s at %d", how, name, at))
	}
	return names, what
}

// ruin returns the bytes of a file with other contents.
func ruin(r *torture.Round, how string, b []byte, at int) []byte {
	page := b[at:min(len(b), at+4096)]
	switch how {
	case "flip":
		if len(b) > 0 {
			b[at] ^= 1 << r.Rand.IntN(8)
		}
	case "zero":
		clear(page)
	case "rubbish":
		for i := range page {
			page[i] = byte(r.Rand.Uint32())
		}
	case "cut":
		return b[:at]
	case "grow":
		return append(b, bytes.Repeat([]byte{byte(r.Rand.Uint32())}, 1+r.Rand.IntN(5000))...)
	case "empty":
		return nil
	}
	return b
}

// TestRigRepair corrupts several files at once. A repair must end. After it the store is
// consistent, a service starts and accepts sends, everything that is read is what was
// written, every message in an intact file is there, and no original file is lost.
func TestRigRepair(t *testing.T) {
	stores := []*spoiled{newSpoiled(t, true), newSpoiled(t, false)}
	torture.Run(t, 50, func(r *torture.Round) {
		s := stores[r.Rand.IntN(len(stores))]
		dir := filepath.Join(r.TempDir(), "data")
		s.copyTo(r, dir)
		damagedFiles, what := s.spoil(r, dir)
		if r.Rand.IntN(2) == 0 {
			s.tryToServe(r, dir)
		}
		kept := s.repairs(r, dir, damagedFiles, fmt.Sprint(what))
		r.Count("damages", len(what))
		r.Count("lost", len(s.whole.bodies)-len(kept.bodies))
		if r.Rand.IntN(3) == 0 { // and corrupt the repaired store again
			again := &spoiled{&damaged{dir: dir, whole: kept}, nil}
			again.read(r)
			damagedFiles, more := again.spoil(r, dir)
			again.repairs(r, dir, damagedFiles, fmt.Sprint(what, ", repaired, ", more))
		}
	})
}

// tryToServe starts a service, which may be refused. It must not do further harm. If it
// starts, it may change every file.
func (s *spoiled) tryToServe(r *torture.Round, dir string) {
	before := fileSums(r, dir)
	served, _ := serveFor(r, dir, "damaged")
	if served {
		return
	}
	after := fileSums(r, dir)
	for name, sum := range before {
		if isData(name) && after[name] != sum {
			r.Errorf("a service that was refused has changed %s", name)
		}
	}
}

// repairs repairs a store and checks what is left of it.
func (s *spoiled) repairs(r *torture.Round, dir string, files []string, what string) contents {
	before := fileSums(r, dir)
	done, err := repair.Repair(checkConfig(dir))
	if err != nil {
		r.Fatalf("%s: the repair returns %v", what, err)
	}
	r.Count("repaired", min(1, len(done.Quarantine)))
	for _, p := range done.After.Problems {
		r.Errorf("%s: after the repair: %s %s", what, p.Where, p.What)
	}
	wantQuarantined(r, dir, done.Quarantine, before, what)
	d, err := openDisk(r, dir)
	if err != nil {
		r.Fatalf("%s: a start after the repair returns %v", what, err)
	}
	kept, err := d.read()
	if err != nil {
		r.Errorf("%s: after the repair: %v", what, err)
	}
	s.judgeRepaired(r, files, kept, done, what)
	page, _, err := d.log.Read(messaging.Position{}, 1_000_000, 1<<30)
	if err != nil {
		r.Errorf("%s: the drain reads %d messages, then %v", what, len(page), err)
	}
	if sent := d.send("after", "", "").Sequence; sent <= slices.Max(append(slices.Collect(maps.Keys(kept.bodies)), 0)) {
		r.Errorf("%s: the next sequence is %d, which was assigned before", what, sent)
	}
	d.close()
	if report, err := fsck.Verify(checkConfig(dir)); err != nil || report.Found > 0 {
		r.Errorf("%s: a check after the service ran: %+v (%v)", what, report.Problems, err)
	}
	kept, err = readContents(dir)
	if err != nil {
		r.Errorf("%s: %v", what, err)
	}
	return kept
}

// judgeRepaired expects nothing that was not there before, and everything that must have
// been kept.
func (s *spoiled) judgeRepaired(tb testing.TB, files []string, kept contents, done repair.Repaired, what string) {
	tb.Helper()
	for seq, body := range kept.bodies {
		if was, ok := s.whole.bodies[seq]; !ok || was != body {
			tb.Errorf("%s: message %d reads %q, and was %q", what, seq, body, was)
		}
	}
	dataLost := slices.ContainsFunc(files, isData)
	for seq := range s.whole.bodies {
		if _, ok := kept.bodies[seq]; ok {
			continue
		}
		for _, name := range s.in[seq] {
			if !slices.Contains(files, name) {
				tb.Errorf("%s: message %d is lost, and %s has it (lost %v)", what, seq, name, done.Lost)
			}
		}
		known := seq <= s.mark && !slices.Contains(files, "control.db") // from the watermark
		if known && !slices.ContainsFunc(done.Lost, func(l repair.LostRange) bool { return l.From <= seq && seq <= l.To }) && done.Quarantine != "" {
			tb.Errorf("%s: message %d is lost, and only %v are reported", what, seq, done.Lost)
		}
	}
	for entry, was := range s.whole.entries {
		if e, ok := kept.entries[entry]; !dataLost && (!ok || e != was) {
			tb.Errorf("%s: entry %s is %+v, and was %+v", what, entry, e, was)
		}
	}
	if !dataLost && (!maps.Equal(kept.receivers, s.whole.receivers) || !maps.Equal(kept.keys, s.whole.keys)) {
		tb.Errorf("%s: receivers or keys have changed", what)
	}
	for id, letter := range kept.letters {
		if was := s.whole.letters[id]; letter != was {
			tb.Errorf("%s: dead letter %s is %s, and was %s", what, id, letter, was)
		}
	}
	if !dataLost && len(kept.letters) != len(s.whole.letters) {
		tb.Errorf("%s: there are %d dead letters, want %d", what, len(kept.letters), len(s.whole.letters))
	}
	if kept.position.Sequence > s.whole.position.Sequence {
		tb.Errorf("%s: the drain is at %d, and was at %d", what, kept.position.Sequence, s.whole.position.Sequence)
	}
}

// wantQuarantined expects every original file to be where the repair reports it.
func wantQuarantined(r *torture.Round, dir, quarantine string, before map[string]string, what string) {
	if quarantine == "" {
		return
	}
	after := fileSums(r, filepath.Join(dir, quarantine))
	for name, sum := range before {
		if name != "LOCK" && name != "reserve" && !strings.HasPrefix(name, "aside-") && after[name] != sum {
			r.Errorf("%s: %s has changed in %s", what, name, quarantine)
		}
	}
}

// fileSums returns the checksums of all files below a directory, except the ballast.
func fileSums(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	sums := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "reserve" {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path) // path is below dir
		sums[name] = string(b)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sums
}

// TestRigRepairCatchesNeedlessLoss: judgeRepaired must find a message that is
// missing although its file is intact, and a message that has changed.
func TestRigRepairCatchesNeedlessLoss(t *testing.T) {
	s := newSpoiled(t, true)
	for name, change := range map[string]func(c *contents){
		"a message is missing": func(c *contents) { delete(c.bodies, 40) },
		"a message is another": func(c *contents) { c.bodies[40] = c.bodies[41] + " " },
		"an entry is missing":  func(c *contents) { clear(c.entries) },
		"a letter is missing":  func(c *contents) { clear(c.letters) },
	} {
		t.Run(name, func(t *testing.T) {
			torture.Control(t, 1, func(r *torture.Round) {
				kept, err := readContents(s.dir)
				if err != nil {
					r.Log(err)
					return
				}
				change(&kept)
				s.judgeRepaired(r, nil, kept, repair.Repaired{}, name)
			})
		})
	}
	kept, err := readContents(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.judgeRepaired(t, nil, kept, repair.Repaired{}, "untouched")
}
