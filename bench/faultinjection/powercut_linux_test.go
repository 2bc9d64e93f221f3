package faultinjection_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stayafrica/messaging/bench/torture"
)

// TestRigPowerCut cuts the power of the real program under load: the contents of the
// disk at one moment are mounted again, with the journal's recovery, and the program is
// started on them. It must have everything that was acknowledged before.
//
// The data directory, with the messages and the control file, is on ext4 on a loop
// device over an image file, which is on XFS:
//
//	program → ext4 and its page cache → loop device → image on XFS → disk
//
// The cut clones the image with FICLONE, as `cp --reflink=always` does. XFS takes the
// image's lock exclusively for the clone, so every write of the loop device is in the
// clone entirely or not at all. So the clone is the device at one moment: everything
// that ext4 had written to it until then, in order, and nothing later. (The loop device
// writes into XFS's page cache; XFS writes that out under the same lock before it
// shares the blocks.) What is only in ext4's page cache is not in the clone, and a
// power cut loses exactly that: unsynced data, an uncommitted journal, sizes and names
// of an open transaction. Nothing is frozen and the program is not notified: fsfreeze
// would let ext4 write everything out first, which a power cut does not.
//
// The clone does not model what happens inside a disk. A write that the device has
// accepted is in the clone whether or not a flush followed. So the test detects neither
// a flush that ext4 or the device omits nor a disk that loses or reorders its own
// cache, and a request of the loop device is not torn within its sectors. The rigs over
// Pebble's crashable file system drop and tear unsynced data at random; this one tests
// the real program on a real file system.
//
// Every second round cuts the power again while the program recovers. An ordinary run
// has a few cuts, a long run 40 rounds.
func TestRigPowerCut(t *testing.T) {
	needMounts(t)
	s := new(slowest)
	defer func() { t.Log(s) }()
	torture.Run(t, 3, func(r *torture.Round) { powerCutRound(r, "", s) })
}

// TestRigPowerCutCatchesNoSync cuts the power of a service that responds without an
// fsync.
func TestRigPowerCutCatchesNoSync(t *testing.T) {
	needMounts(t)
	torture.Control(t, 3, func(r *torture.Round) { powerCutRound(r, "nosync", new(slowest)) })
}

func powerCutRound(r *torture.Round, fault string, s *slowest) {
	disks := newDisks(r)
	disk := disks.format("first")
	w := newHarness(r, filepath.Join(disk.mounted, "data"), fault, s)
	w.startReady()
	w.beginLoad(32)
	w.sleep(300, longest())
	// The backend is cut off together with the service, and responses to clients no
	// longer count from here on: the service runs until the clone is made, but its
	// responses after the cut are not acknowledgements.
	w.sink.Mute(true)
	w.load.Cut()
	disk = w.cutPower(disks, disk, "cut")
	w.verify("cut off")
	if r.Number%2 == 1 { // once more, during recovery
		w.start()
		w.sleep(0, 250)
		w.cutPower(disks, disk, "cut-again")
	}
	w.startReady()
	w.load.EndCut()
	w.sink.Mute(false)
	w.sleep(100, 400)
	w.report(w.finish())
}

// longest is how long a service works before its power is cut, in milliseconds. In a
// long run that is enough time to flush memtables, rotate logs and compact files.
func longest() int {
	if torture.Long() {
		return 6000
	}
	return 1500
}

// cutPower ends the service and returns the disk as it was at a moment before. The disk
// is mounted, and the service's directory is on it from then on.
func (w *harness) cutPower(disks *disks, d disk, name string) disk {
	w.Helper()
	image := filepath.Join(disks.mounted, name)
	if err := clone(d.image, image); err != nil {
		w.Fatal(err)
	}
	w.service.Kill()
	d.unmount()
	d = disks.mount(image)
	w.config.Dir = filepath.Join(d.mounted, "data")
	w.Count("cuts", 1)
	return d
}

// clone creates a file that shares all blocks with another.
func clone(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer target.Close()
	return unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
}
