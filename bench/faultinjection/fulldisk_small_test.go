package faultinjection_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stayafrica/messaging/bench/torture"
)

// smallBytes is the size of the disk to fill: the ballast (192 MiB), write-ahead logs
// (up to 7 of 36 MiB), the minimum free space, and some messages.
const smallBytes = 640 << 20

// smallDisk is a separate file system that a filler file can fill.
type smallDisk struct {
	torture *torture.Round
	dir     string
	filler  *os.File
}

// needSmallDisk skips the test where nothing can be mounted.
func needSmallDisk(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := mountTmpfs(dir, 1<<20); err != nil {
		t.Skipf("skipped: a small disk cannot be mounted here (it takes root): %v", err)
	}
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

func mountTmpfs(dir string, bytes int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
}

// newSmallDisk mounts a file system until the end of the round: a tmpfs, or ext4 on a
// loop device if the seed selects it and the machine supports it. It checks that the
// unmount succeeds.
func newSmallDisk(r *torture.Round) *smallDisk {
	r.Helper()
	d := &smallDisk{torture: r, dir: filepath.Join(r.TempDir(), "disk")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		r.Fatal(err)
	}
	kind := "tmpfs"
	if r.Rand.IntN(3) == 0 && mountExt4(filepath.Dir(d.dir), d.dir) == nil {
		kind = "ext4"
	} else if err := mountTmpfs(d.dir, smallBytes); err != nil {
		r.Fatal(err)
	}
	r.Logf("round %d: %s", r.Number, kind)
	r.Cleanup(d.unmount)
	return d
}

// mountExt4 reserves no blocks for root: the program may run as root and would use
// them.
func mountExt4(dir, at string) error {
	image := filepath.Join(dir, "image")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(smallBytes), f.Close()); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", image},
		{"mount", "-o", "loop", image, at},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", command, err, out)
		}
	}
	return nil
}

func (d *smallDisk) unmount() {
	d.empty()
	var err error
	for range 50 { // a killed process releases its files a little later
		if err = syscall.Unmount(d.dir, 0); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		d.torture.Errorf("unmount %s: %v", d.dir, err)
		_ = syscall.Unmount(d.dir, syscall.MNT_DETACH)
	}
	var under, over unix.Stat_t
	if unix.Stat(d.dir, &under) != nil || unix.Stat(filepath.Dir(d.dir), &over) != nil || under.Dev != over.Dev {
		d.torture.Errorf("%s is still mounted", d.dir)
	}
}

func (d *smallDisk) free() int64 {
	var stat unix.Statfs_t
	if err := unix.Statfs(d.dir, &stat); err != nil {
		d.torture.Error(err)
	}
	return int64(stat.Bavail) * stat.Bsize
}

// fill leaves that many bytes free, as closely as the file system allows.
func (d *smallDisk) fill(leave int64) {
	d.torture.Helper()
	if d.filler == nil {
		var err error
		if d.filler, err = os.Create(filepath.Join(d.dir, "filler")); err != nil {
			d.torture.Error(err)
			return
		}
	}
	end, err := d.filler.Seek(0, 2)
	if err != nil {
		d.torture.Error(err)
	}
	for step := d.free() - leave; step >= 4096; {
		err := unix.Fallocate(int(d.filler.Fd()), 0, end, step)
		if err == nil {
			end += step
			_ = d.filler.Truncate(end)
			step = d.free() - leave
			continue
		}
		if !errors.Is(err, unix.ENOSPC) {
			d.torture.Error(err)
			return
		}
		step /= 2 // another process writes too
	}
}

// giveBack frees that many bytes of the filler file; none if n is not positive.
func (d *smallDisk) giveBack(n int64) {
	if d.filler == nil || n <= 0 {
		return
	}
	end, err := d.filler.Seek(0, 2)
	if err = errors.Join(err, d.filler.Truncate(max(0, end-n))); err != nil {
		d.torture.Error(err)
	}
}

// empty removes the filler file.
func (d *smallDisk) empty() {
	if d.filler == nil {
		return
	}
	if err := errors.Join(d.filler.Close(), os.Remove(d.filler.Name())); err != nil {
		d.torture.Error(err)
	}
	d.filler = nil
}
