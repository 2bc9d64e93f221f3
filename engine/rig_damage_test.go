package engine_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/repair"
)

// damageEvery is the distance between the bytes that the short form flips, and between its
// cuts, outside of headers.
const (
	damageEvery  = 128
	damageHeader = 64
)

// damage is one corruption of the files of a store.
type damage struct {
	what  string // for reports
	files []string
	apply func(contents [][]byte) [][]byte // nil removes the file
}

// damaged is a store to be corrupted repeatedly: the contents of its files, and the
// contents of the store.
type damaged struct {
	dir   string
	files map[string][]byte
	whole contents
	// mark is the last sequence that the watermark covers.
	mark uint64
	list []damage
}

// newDamaged creates a store with tables, a manifest, logs and a control file, and with
// data of every kind. If it is stopped, its watermark covers everything; if it is killed,
// the watermark is older.
func newDamaged(tb testing.TB, stopped bool) *damaged {
	tb.Helper()
	s := &damaged{dir: filepath.Join(tb.TempDir(), "data")}
	d := mustOpenDisk(tb, s.dir)
	d.fillSome()
	d.close()
	d = mustOpenDisk(tb, s.dir)
	for i := range 20 {
		d.send(fmt.Sprint("n", i%3), "", "")
		if i == 10 && !stopped {
			d.saveWatermark()
		}
	}
	s.mark = d.log.Durable()
	if !stopped {
		s.mark -= 9
	}
	s.whole = d.contents()
	if stopped {
		d.close()
	} else if err := errors.Join(d.log.Close(), d.store.Close()); err != nil {
		tb.Fatal(err)
	}
	s.read(tb)
	return s
}

func (s *damaged) read(tb testing.TB) {
	tb.Helper()
	s.files = make(map[string][]byte)
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "reserve" || e.Name() == "LOCK" {
			return err
		}
		name, _ := filepath.Rel(s.dir, path) // path is below dir
		s.files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "reserve")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
}

// enumerate lists every damage; with every above 1 only those of the short form.
func (s *damaged) enumerate(every int) {
	names := slices.Sorted(maps.Keys(s.files))
	for _, name := range names {
		size := len(s.files[name])
		s.list = append(s.list, damage{what: "remove " + name, files: []string{name}, apply: func([][]byte) [][]byte { return [][]byte{nil} }})
		for at := range size {
			if at%every != 0 && at >= damageHeader && at < size-damageHeader {
				continue
			}
			bit := byte(1) << ((at*7 + size) % 8)
			s.list = append(s.list, damage{what: fmt.Sprintf("flip byte %d of %s", at, name), files: []string{name}, apply: func(b [][]byte) [][]byte {
				b[0][at] ^= bit
				return b
			}})
			if at%every == 0 {
				s.list = append(s.list, damage{what: fmt.Sprintf("cut %s at %d", name, at), files: []string{name}, apply: func(b [][]byte) [][]byte {
					return [][]byte{b[0][:at]}
				}})
			}
		}
		for _, other := range names {
			if other > name {
				s.list = append(s.list, damage{what: "swap " + name + " and " + other, files: []string{name, other}, apply: func(b [][]byte) [][]byte {
					return [][]byte{b[1], b[0]}
				}})
			}
			if other != name {
				s.list = append(s.list, damage{what: "write " + other + " over " + name, files: []string{name}, apply: func([][]byte) [][]byte {
					return [][]byte{slices.Clone(s.files[other])}
				}})
			}
		}
	}
}

// do corrupts the store in a directory; undo restores the files.
func (s *damaged) do(tb testing.TB, dir string, d damage) (undo func()) {
	tb.Helper()
	before := make([][]byte, len(d.files))
	for i, name := range d.files {
		before[i] = slices.Clone(s.files[name])
	}
	for i, after := range d.apply(before) {
		path := filepath.Join(dir, d.files[i])
		err := os.Remove(path)
		if after != nil {
			err = os.WriteFile(path, after, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return func() {
		for _, name := range d.files {
			if err := os.WriteFile(filepath.Join(dir, name), s.files[name], 0o600); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// copyTo writes the original store.
func (s *damaged) copyTo(tb testing.TB, dir string) {
	tb.Helper()
	for name, b := range s.files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// judge checks a store in which no corruption was found: it has nothing that was not
// written, and everything that was, except the end that the watermark does not cover.
func (s *damaged) judge(tb testing.TB, what string, kept contents) {
	tb.Helper()
	ended := false
	for seq := uint64(1); seq <= uint64(len(s.whole.bodies)); seq++ {
		body, ok := kept.bodies[seq]
		switch {
		case ok && body != s.whole.bodies[seq]:
			tb.Errorf("%s: message %d reads %q, and was %q", what, seq, body, s.whole.bodies[seq])
		case ok && ended:
			tb.Errorf("%s: message %d is there, although an earlier one is missing", what, seq)
		case !ok && seq <= s.mark:
			tb.Errorf("%s: message %d is missing, and the watermark is at %d", what, seq, s.mark)
		}
		ended = ended || !ok
	}
	if len(kept.bodies) > len(s.whole.bodies) {
		tb.Errorf("%s: there are %d messages, want %d", what, len(kept.bodies), len(s.whole.bodies))
	}
	if !ended {
		s.judgeAll(tb, what, kept)
	}
}

// judgeAll expects everything besides the messages to be unchanged, too.
func (s *damaged) judgeAll(tb testing.TB, what string, kept contents) {
	tb.Helper()
	for name, same := range map[string]bool{
		"what is noted of the messages": maps.Equal(kept.records, s.whole.records),
		"receivers of broadcasts":       maps.Equal(kept.receivers, s.whole.receivers),
		"queues":                        maps.Equal(kept.entries, s.whole.entries),
		"idempotency keys":              maps.Equal(kept.keys, s.whole.keys),
		"dead letters":                  maps.Equal(kept.letters, s.whole.letters),
		"the drain's position":          kept.position == s.whole.position,
	} {
		if !same {
			tb.Errorf("%s: %s have changed", what, name)
		}
	}
}

// TestRigDamage flips bytes, truncates, removes and swaps files, and overwrites one with
// another. A check finds each corruption, or it is harmless: what is read is what was
// written, and only what the watermark does not cover may be missing. Every hundredth
// store is also served by the real program, and repaired.
func TestRigDamage(t *testing.T) {
	every := damageEvery
	if torture.Long() {
		every = 1
	}
	stores := []*damaged{newDamaged(t, true), newDamaged(t, false)}
	total := 0
	for _, s := range stores {
		s.enumerate(every)
		total += len(s.list)
	}
	t.Logf("%d damages in all", total)
	torture.Run(t, total, func(r *torture.Round) {
		n := r.Number
		if torture.Long() {
			n = int(r.Seed % uint64(total))
		}
		s := stores[0]
		if n >= len(s.list) {
			s, n = stores[1], n-len(s.list)
		}
		d := s.list[n]
		r.Count("found", s.check(r, d))
		if n%100 == 0 {
			r.Count("served", 1)
			r.Count("repaired", s.repair(r, d))
		}
	})
}

// check runs a check; if it does not find the corruption, it reads the store. found is 1
// if the check found it.
func (s *damaged) check(r *torture.Round, d damage) (found int) {
	defer s.do(r, s.dir, d)()
	report, err := fsck.Verify(checkConfig(s.dir))
	if err != nil {
		r.Errorf("%s: %v", d.what, err)
		return 0
	}
	if report.Found > 0 {
		return 1
	}
	kept, err := readContents(s.dir)
	if err != nil {
		r.Errorf("%s: a check found nothing, and reading fails: %v", d.what, err)
		return 0
	}
	s.judge(r, d.what, kept)
	return 0
}

// repair runs a service on the corrupt store, and then repairs it.
func (s *damaged) repair(r *torture.Round, d damage) (repaired int) {
	dir := filepath.Join(r.TempDir(), "data")
	s.copyTo(r, dir)
	s.do(r, dir, d)
	s.serve(r, dir, d)
	done, err := repair.Repair(checkConfig(dir))
	if err != nil {
		r.Errorf("%s: the repair returns %v", d.what, err)
		return 0
	}
	for _, p := range done.After.Problems {
		r.Errorf("%s: after the repair: %s %s", d.what, p.Where, p.What)
	}
	opened, err := openDisk(r, dir)
	if err != nil {
		r.Errorf("%s: a start after the repair returns %v", d.what, err)
		return 0
	}
	kept, err := opened.read()
	if err = errors.Join(err, opened.log.Close(), opened.store.Close()); err != nil {
		r.Errorf("%s: after the repair: %v", d.what, err)
	}
	for seq, body := range kept.bodies {
		if body != s.whole.bodies[seq] {
			r.Errorf("%s: after the repair message %d reads %q, and was %q", d.what, seq, body, s.whole.bodies[seq])
		}
	}
	if done.Quarantine == "" {
		return 0
	}
	return 1
}

// serve runs the real program on the corrupt store for a moment, and checks what it
// leaves.
func (s *damaged) serve(r *torture.Round, dir string, d damage) {
	if _, fine := serveFor(r, dir, d.what); !fine {
		return
	}
	if kept, err := readContents(dir); err == nil {
		s.judge(r, "served after: "+d.what, kept)
	} else if !errors.Is(err, storage.ErrCorrupt) {
		r.Errorf("%s: reading returns %v", d.what, err)
	}
}

// serveFor runs the real program on a corrupt store for a moment. The program refuses the
// store, ends, or serves. served reports whether it was ready, and fine whether it also
// stopped normally.
func serveFor(tb testing.TB, dir, what string) (served, fine bool) {
	tb.Helper()
	// A backend that does not respond: without a backend, everything would count as
	// settled.
	p, err := program.Start(program.Config{Dir: dir, Env: []string{"DJANGO_API_URL=http://127.0.0.1:9"}})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err = p.Ready(30 * time.Second); err != nil && !errors.Is(err, program.ErrEnded) {
		p.Kill()
		tb.Errorf("%s: %v", what, err)
		return false, false
	}
	served = err == nil
	status, err := p.Stop(30 * time.Second)
	if err != nil || (status != 0 && status != 4) || strings.Contains(p.Log(), "panic") {
		tb.Errorf("%s: the service ends with %d (%v):\n%s", what, status, err, p.Log())
		return served, false
	}
	return served, served && status == 0
}

// readContents reads a store without opening it for a service.
func readContents(dir string) (contents, error) {
	store, err := storage.OpenToRead(dir)
	if err != nil {
		return contents{}, err
	}
	c, err := contentsOf(store)
	return c, errors.Join(err, store.Close())
}

func (d *realDisk) read() (contents, error) { return contentsOf(d.store) }

// TestRigDamageCatchesAChangedMessage: judge must find a message that was changed and
// whose checksums are all valid.
func TestRigDamageCatchesAChangedMessage(t *testing.T) {
	s := newDamaged(t, true)
	torture.Control(t, 1, func(r *torture.Round) {
		kept := contents{bodies: maps.Clone(s.whole.bodies)}
		kept.bodies[5] = strings.Replace(kept.bodies[5], "x", "y", 1)
		s.judge(r, "changed", kept)
	})
	torture.Control(t, 1, func(r *torture.Round) {
		kept := contents{bodies: maps.Clone(s.whole.bodies)}
		delete(kept.bodies, uint64(len(kept.bodies)))
		s.judge(r, "without the last one", kept)
	})
	torture.Control(t, 1, func(r *torture.Round) {
		kept, err := readContents(s.dir)
		if err != nil {
			r.Log(err)
			return
		}
		for entry := range kept.entries {
			delete(kept.entries, entry)
			break
		}
		s.judge(r, "without an entry of a queue", kept)
	})
	if kept, err := readContents(s.dir); err != nil {
		t.Error(err)
	} else {
		s.judge(t, "untouched", kept)
	}
}

// fillSome stores some data of every kind, without a large broadcast.
func (d *realDisk) fillSome() {
	d.Helper()
	for i := range 30 {
		d.send(fmt.Sprint("u", i%4), fmt.Sprintf(`,"priority":%q`, messaging.Priority(i%messaging.Priorities)), fmt.Sprint("key", i))
	}
	for i := range 3 {
		d.send("later", fmt.Sprintf(`,"delay_seconds":%d`, 3600+i), "")
		d.send("short", fmt.Sprintf(`,"ttl_seconds":%d`, 3600+i), "")
	}
	d.broadcast(7)
	d.moveSome()
	d.lettersSome()
}
