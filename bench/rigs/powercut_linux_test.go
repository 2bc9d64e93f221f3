package rigs_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stayafrica/messaging/bench/torture"
)

// TestRigPowerCut cuts the power of the real program under load: what the disk
// held at one moment is mounted anew, with the journal's recovery, and the
// program is started on it. It must have all that was answered before.
//
// The data directory, with the messages and the control file, lies on ext4 in a
// loop device over an image file, which lies on XFS:
//
//	program → ext4 and its page cache → loop device → image on XFS → disk
//
// The cut is a clone of the image by FICLONE, what `cp --reflink=always` does.
// XFS takes the image's lock exclusively for it, so every write of the loop
// device is in the clone as a whole, or not at all, and the clone is the device
// at one moment: all that ext4 had handed to it until then, in order, and nothing
// of what came later. (The loop device writes into XFS's page cache; XFS writes
// that out under the same lock before it shares the blocks.) What only ext4's
// page cache had is not in it, and that is what a cut of the power takes: data
// that nobody synced, a journal that was not committed, sizes and names whose
// transaction was open. Nothing is frozen and nothing told to the program:
// fsfreeze would let ext4 write down everything first, which no cut does.
//
// It does not show what happens in a disk. A write that the device has accepted
// is in the clone, whether a flush came after it or not, so neither a flush that
// ext4 or the device forgets nor a disk that loses or reorders its own cache is
// caught; and a request of the loop device is not torn in the middle of its
// sectors. The rigs over Pebble's crashable file system drop and tear at random
// what was not synced; this one shows the real program and a real file system
// together.
//
// Every second round cuts the power again while the program recovers. A few cuts
// in an ordinary run; 40 rounds on demand.
func TestRigPowerCut(t *testing.T) {
	needMounts(t)
	s := new(slowest)
	defer func() { t.Log(s) }()
	torture.Run(t, 3, func(r *torture.Round) { powerCutRound(r, "", s) })
}

// TestRigPowerCutCatchesNoSync cuts the power of a service that answers without
// an fsync.
func TestRigPowerCutCatchesNoSync(t *testing.T) {
	needMounts(t)
	torture.Control(t, 3, func(r *torture.Round) { powerCutRound(r, "nosync", new(slowest)) })
}

func powerCutRound(r *torture.Round, fault string, s *slowest) {
	disks := newDisks(r)
	disk := disks.format("first")
	w := newWorld(r, filepath.Join(disk.mounted, "data"), fault, s)
	w.startReady()
	w.beginLoad(32)
	w.sleep(300, longest())
	// The backend is cut off together with the service, and what clients are
	// answered from here on counts for nothing: the service lives until the clone
	// is made, and must not be believed.
	w.sink.Mute(true)
	w.load.Cut()
	disk = w.cutPower(disks, disk, "cut")
	w.verify("cut off")
	if r.Number%2 == 1 { // once more, while it recovers
		w.start()
		w.sleep(0, 250)
		w.cutPower(disks, disk, "cut-again")
	}
	w.startReady()
	w.load.Mend()
	w.sink.Mute(false)
	w.sleep(100, 400)
	w.report(w.finish())
}

// longest is how long a service works before its power is cut, in milliseconds.
// On demand that is long enough for memtables to be flushed, logs to be turned
// over and files to be merged meanwhile.
func longest() int {
	if torture.Long() {
		return 6000
	}
	return 1500
}

// cutPower ends the service, and gives the disk as it was at some moment before
// that. It is mounted, and the service's directory is on it from now on.
func (w *world) cutPower(disks *disks, d disk, name string) disk {
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

// clone makes a file that shares all blocks with another.
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
