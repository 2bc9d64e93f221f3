package diskfs

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Ordered is the file system below Pebble, made safer in two ways.
//
// A marker never becomes durable before the file that it names. Pebble writes a
// manifest, then a marker with its name, and then syncs the directory once for
// both: where the power goes before that, a disk may have kept the marker alone,
// and the database does not open any more.
//
// What fails of a write-ahead log or of the note of options, and a directory that
// cannot be listed or synced, ends the process as every failed sync does, with
// its status and its line in the log. In some of these places Pebble panics, and
// its locks then do so again; in others it returns from a start whose background
// work still runs, on what is closed by then.
type Ordered struct {
	vfs.FS

	// Fatal ends the process. It must not return.
	Fatal func(doing string, err error)
}

const (
	markerPrefix  = "marker."
	logSuffix     = ".log"
	optionsSuffix = ".dbtmp" // as which they are written
)

// Create implements [vfs.FS].
func (o Ordered) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), markerPrefix) {
		if err := SyncDir(o.FS, o.PathDir(name)); err != nil {
			return nil, err
		}
	}
	f, err := o.FS.Create(name, category)
	return o.made(name, f, err)
}

// ReuseForWrite implements [vfs.FS].
func (o Ordered) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := o.FS.ReuseForWrite(oldname, newname, category)
	return o.made(newname, f, err)
}

// made returns a file that was made, as a fatalFile where it is one of those.
func (o Ordered) made(name string, f vfs.File, err error) (vfs.File, error) {
	if !strings.HasSuffix(name, logSuffix) && !strings.HasSuffix(name, optionsSuffix) {
		return f, err
	}
	if err != nil {
		o.Fatal("make a file of the store", err)
	}
	return fatalFile{f, o.Fatal}, nil
}

// Rename implements [vfs.FS].
func (o Ordered) Rename(oldname, newname string) error {
	err := o.FS.Rename(oldname, newname)
	if err != nil && strings.HasSuffix(oldname, optionsSuffix) {
		o.Fatal("rename a file of the store", err)
	}
	return err
}

// List implements [vfs.FS].
func (o Ordered) List(dir string) ([]string, error) {
	names, err := o.FS.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		o.Fatal("list a directory of the store", err)
	}
	return names, err
}

// OpenDir implements [vfs.FS].
func (o Ordered) OpenDir(name string) (vfs.File, error) {
	dir, err := o.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return fatalFile{dir, o.Fatal}, nil
}

// Unwrap implements [vfs.FS].
func (o Ordered) Unwrap() vfs.FS { return o.FS }

// fatalFile is a file without which nothing may be acknowledged.
type fatalFile struct {
	vfs.File

	fatal func(doing string, err error)
}

// Write implements [vfs.File].
func (v fatalFile) Write(p []byte) (int, error) {
	n, err := v.File.Write(p)
	return n, v.must("write a file of the store", err)
}

// Sync implements [vfs.File].
func (v fatalFile) Sync() error { return v.must("sync a file of the store", v.File.Sync()) }

// SyncData implements [vfs.File].
func (v fatalFile) SyncData() error { return v.must("sync a file of the store", v.File.SyncData()) }

// SyncTo implements [vfs.File].
func (v fatalFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = v.File.SyncTo(length)
	return fullSync, v.must("sync a file of the store", err)
}

// Close implements [vfs.File].
func (v fatalFile) Close() error { return v.must("close a file of the store", v.File.Close()) }

func (v fatalFile) must(doing string, err error) error {
	if err != nil {
		v.fatal(doing, err)
	}
	return err
}

// SyncDir makes the names in a directory durable.
func SyncDir(fsys vfs.FS, path string) error {
	dir, err := fsys.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
