package storage

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// wantUpgraded checks that the tables have everything that a control file had, and that
// the control file has none of it. Its format number makes older programs refuse it.
func wantUpgraded(t *testing.T, dir, want string) {
	t.Helper()
	s := openDisk(t, dir)
	if got := lettersOf(t, s); got != want {
		t.Errorf("the store has\n%s, want\n%s", got, want)
	}
	if err := tables.Get(s.Reader, []byte{schema.TableMeta}, func(v []byte) error {
		if v[0] != schema.MetaVersion {
			t.Errorf("the meta record is of version %d", v[0])
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	storagetest.Close(t, s)
	cells := controlCells(t, dir)
	if len(cells) != 2*3 {
		t.Errorf("the control file has %d values, want identity, watermark and pad twice", len(cells))
	}
	for _, bucket := range controlfile.StateBuckets() {
		if format := binary.BigEndian.Uint32(cells[cell(bucket, controlfile.KeyIdentity)]); format != layout.Format {
			t.Errorf("the control file says format %d", format)
		}
	}
	wantWhole(t, dir, layout.Format)
}

func TestAStoreOfFormat1IsUpgraded(t *testing.T) {
	dir := format1Store(t)
	want := lettersOfFormat1(t, dir)
	if n := strings.Count(want, "\n"); n != 12+5 {
		t.Fatalf("the store of format 1 has %d letters and jobs:\n%s", n, want)
	}
	for range 2 {
		wantUpgraded(t, dir, want)
	}
}

// A check and OpenToRead change nothing, and find the dead letters of format 1.
func TestAStoreOfFormat1IsReadUnchanged(t *testing.T) {
	for _, format := range []uint32{layout.Format1, layout.FormatUpgrading} {
		dir := format1Store(t)
		want := lettersOfFormat1(t, dir)
		storagetest.SetFormat(t, dir, format)
		if format == layout.FormatUpgrading { // an interrupted upgrade, with some of the copies
			changeMessages(t, dir, putPart)
		}
		before := storagetest.Listing(t, dir)
		wantWhole(t, dir, layout.Format1)
		if got := lettersOfFormat1(t, dir); got != want {
			t.Errorf("it is read as\n%s, want\n%s", got, want)
		}
		s, err := OpenToRead(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		old, err := s.Format1DeadLetters(func(d *messaging.DeadLetter) error {
			if n++; d.Recipients == 0 || !messaging.ValidDeadLetterID(d.ID) || d.Message.Position.Sequence == 0 {
				t.Errorf("%+v", d)
			}
			return nil
		})
		storagetest.Close(t, s)
		if !old || err != nil || n != 12 {
			t.Errorf("%t: %d letters (%v)", old, n, err)
		}
		if after := storagetest.Listing(t, dir); before != after {
			t.Errorf("the directory had %s, and now has %s", before, after)
		}
		wantUpgraded(t, dir, want)
	}
}

// putPart writes letters that an interrupted upgrade may have left.
func putPart(b *Batch, _ schema.Meta) {
	k := schema.LetterKey{Kind: messaging.Refused, Sequence: 42, Reason: 7}
	m := messaging.Message{
		ID: messaging.MessageID{7}, Origin: messaging.MessageID{7}, Position: messaging.Position{Sequence: 7},
		CreatedAt: time.UnixMilli(5), Receiver: messaging.Receiver{User: "nobody"}, Body: []byte(`{"text":"x"}`),
	}
	l := schema.Letter{
		ID: m.ID, Named: m.Receiver, Attempts: 1, FailedAt: time.Unix(5, 0), LastFailedAt: time.Unix(5, 0), Recipients: 1, Reason: "r",
	}
	b.PutLetter(k, &l)
	b.PutLetterMessage(k.Message(), &m)
	b.PutLetterRecipient(k, "nobody", &schema.LetterRecipient{})
	b.PutLetterCount(messaging.Refused, 77)
	b.PutPosition(messaging.Position{Sequence: 80})
	b.PutJob("no job", schema.JobRecord{})
}

// The upgrade is interrupted after each of its steps, on a real disk.
func TestAnUpgradeThatWasCutOffBeginsAgain(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, dir string){
		"the control file says so": func(*testing.T, string) {},
		"a part was copied":        func(t *testing.T, dir string) { t.Helper(); changeMessages(t, dir, putPart) },
		"the meta record is new": func(t *testing.T, dir string) {
			t.Helper()
			changeMessages(t, dir, func(b *Batch, meta schema.Meta) {
				putPart(b, meta)
				b.PutMeta(meta)
			})
		},
		"a part of the new control file": func(t *testing.T, dir string) {
			t.Helper()
			changeMessages(t, dir, putPart)
			if err := os.WriteFile(filepath.Join(dir, layout.ControlName+".new"), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := format1Store(t)
			want := lettersOfFormat1(t, dir)
			storagetest.SetFormat(t, dir, layout.FormatUpgrading)
			leave(t, dir)
			wantUpgraded(t, dir, want)
			if names := storagetest.Listing(t, dir); strings.Contains(names, ".new") {
				t.Errorf("it leaves %s", names)
			}
		})
	}
}

// upgradeCuts collects the states that power cuts during an upgrade leave.
type upgradeCuts struct {
	mu       sync.Mutex // Pebble works in background goroutines
	disk     *vfs.MemFS
	control  *controlfile.Memory
	random   *rand.Rand
	disks    []*vfs.MemFS
	controls []*controlfile.Memory
}

func (c *upgradeCuts) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	percent := []int{0, 50, 100}[len(c.disks)%3]
	c.disks = append(c.disks, c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.random}))
	c.controls = append(c.controls, c.control.CrashClone(len(c.disks)%2 == 0))
}

// upgradeCutting upgrades a store, and returns what power cuts before each write leave.
func upgradeCutting(t *testing.T, disk *vfs.MemFS, control *controlfile.Memory, seed uint64) *upgradeCuts {
	t.Helper()
	cuts := &upgradeCuts{disk: disk, control: control, random: rand.New(rand.NewPCG(1, seed))}
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			cuts.cut()
		}
		return nil
	}))
	control.OnSync(func() error {
		for range 4 { // with and without the unsynced writes
			cuts.cut()
		}
		return nil
	})
	openAndClose(t, fs, control)
	control.OnSync(nil)
	return cuts
}

// The power is cut before each write of an upgrade, and before a write of the next start.
// The store is always upgraded, or a start can upgrade it.
func TestAnUpgradeIsAllOrNothing(t *testing.T) {
	dir := format1Store(t)
	want := lettersOfFormat1(t, dir)
	disk, control := inMemory(t, dir)
	cuts := upgradeCutting(t, disk, control, 1)
	formats := make(map[uint32]int)
	for i := range cuts.disks {
		control := cuts.controls[i]
		id, err := controlfile.ReadIdentity(control)
		if err != nil {
			t.Fatal(err)
		}
		formats[id.Format]++
		if id.Format == layout.Format1 && i%4 != 0 {
			continue // before the upgrade, where cuts are like those of any start
		}
		disk := cuts.disks[i]
		if i%5 == 0 { // cut the power again
			again := upgradeCutting(t, disk, control, uint64(i))
			n := again.random.IntN(len(again.disks))
			disk, control = again.disks[n], again.controls[n]
		}
		s, err := Open(Config{Dir: "/data", FS: disk, Control: control.Open, MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
		if err != nil {
			t.Fatalf("cut %d of %d: %v", i, len(cuts.disks), err)
		}
		if got := lettersOf(t, s); got != want {
			t.Errorf("cut %d of %d: the store has\n%s, want\n%s", i, len(cuts.disks), got, want)
		}
		for _, p := range known(fsck.Check(s.Reader, storagetest.Codec())) {
			t.Errorf("cut %d: %s: %s", i, p.Where, p.What)
		}
		storagetest.Close(t, s)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d cuts, by format %v", len(cuts.disks), formats)
	for _, format := range []uint32{layout.Format1, layout.FormatUpgrading, layout.Format} {
		if formats[format] == 0 {
			t.Errorf("no cut left format %d", format)
		}
	}
}

// TestAnUpgradeNeedsRoom shows that an upgrade is refused on a nearly full disk, and the
// store keeps format 1.
func TestAnUpgradeNeedsRoom(t *testing.T) {
	dir, fill, empty := smallDisk(t)
	old := format1Store(t)
	want := lettersOfFormat1(t, old)
	if err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "data")
	fill(100 << 20) // of which the ballast takes 68
	before := controlCells(t, dir)
	_, err := Open(Config{Dir: dir, MemTableBytes: 1 << 20})
	if !errors.Is(err, layout.ErrDiskFull) || !strings.Contains(err.Error(), "the upgrade of the store needs 64 MiB") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Fatalf("on a nearly full disk: %v", err)
	}
	after := controlCells(t, dir)
	if len(after) != len(before) || lettersOfFormat1(t, dir) != want {
		t.Errorf("the control file had %d values and has %d", len(before), len(after))
	}
	for name, value := range before {
		if string(after[name]) != string(value) {
			t.Errorf("%q was changed", name)
		}
	}
	empty()
	wantUpgraded(t, dir, want)
}
