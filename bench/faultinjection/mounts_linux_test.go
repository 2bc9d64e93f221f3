package faultinjection_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stayafrica/messaging/bench/torture"
)

const (
	// xfsBytes is the size of the file system that holds the images, and ext4Bytes the
	// size of an image. All are sparse.
	xfsBytes  = 8 << 30
	ext4Bytes = 2 << 30
)

// needMounts skips the test where this machine cannot mount.
func needMounts(t *testing.T) {
	t.Helper()
	if err := mountable(); err != nil {
		t.Skipf("skipped: this machine cannot mount ext4 in a loop on XFS with reflink (it takes root, loop devices, mkfs.xfs and mkfs.ext4): %v", err)
	}
}

// mountable tries the mounts once, with small images.
var mountable = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("not root: %w", os.ErrPermission)
	}
	for _, name := range []string{"mkfs.xfs", "mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(name); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "messaging-mount-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "xfs")
	if err := makeXFS(image); err != nil {
		return err
	}
	d, err := mount(image, filepath.Join(dir, "mounted"))
	if err != nil {
		return err
	}
	one := filepath.Join(d.mounted, "one")
	if err = os.WriteFile(one, []byte("one"), 0o600); err == nil {
		err = clone(one, filepath.Join(d.mounted, "two"))
	}
	if e := unmount(d.mounted); e != nil {
		return e
	}
	return err
})

// disk is a mounted image.
type disk struct {
	image, mounted string
	unmount        func()
}

// disks is an XFS in a loop mount that holds the images.
type disks struct {
	disk

	r *torture.Round
}

func newDisks(r *torture.Round) *disks {
	r.Helper()
	d := &disks{r: r}
	image := filepath.Join(r.TempDir(), "xfs")
	if err := makeXFS(image); err != nil {
		r.Fatal(err)
	}
	d.disk = d.mount(image)
	return d
}

// format creates an ext4 in an image and mounts it.
func (d *disks) format(name string) disk {
	d.r.Helper()
	image := filepath.Join(d.mounted, name)
	if err := sparse(image, ext4Bytes); err != nil {
		d.r.Fatal(err)
	}
	if err := run("mkfs.ext4", "-q", "-F", image); err != nil {
		d.r.Fatal(err)
	}
	return d.mount(image)
}

// mount mounts an image until the end of the round, or until it is unmounted. An
// unfinished journal is replayed, as after a power cut.
func (d *disks) mount(image string) disk {
	d.r.Helper()
	mounted, err := mount(image, filepath.Join(d.r.TempDir(), "mounted"))
	if err != nil {
		d.r.Fatal(err)
	}
	mounted.unmount = sync.OnceFunc(func() {
		if err := unmount(mounted.mounted); err != nil {
			d.r.Error(err)
		}
	})
	d.r.Cleanup(mounted.unmount)
	return mounted
}

func makeXFS(image string) error {
	if err := sparse(image, xfsBytes); err != nil {
		return err
	}
	return run("mkfs.xfs", "-q", "-m", "reflink=1", image)
}

func sparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// mount attaches an image to a loop device, which is released with the mount.
func mount(image, at string) (disk, error) {
	if err := os.Mkdir(at, 0o700); err != nil {
		return disk{}, err
	}
	return disk{image: image, mounted: at}, run("mount", "-o", "loop", image, at)
}

// unmount also releases the loop device. If the mount is still in use, unmount detaches
// it lazily, so that the device is released with the last user, and returns an error.
func unmount(at string) error {
	err := run("umount", at)
	if err != nil {
		err = errors.Join(err, run("umount", "-l", at))
	}
	return err
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, bytes.TrimSpace(out))
	}
	return nil
}
