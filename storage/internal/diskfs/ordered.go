package diskfs

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Ordered is a file system below Pebble that adds two guarantees.
//
// A marker never becomes durable before the file that it names. Pebble writes a manifest,
// then a marker with its name, and then syncs the directory once for both. After a power
// failure before that sync, a disk may have kept only the marker, and the database no
// longer opens.
//
// A failure of a write-ahead log or of the options file, and a failure to list or sync a
// directory, ends the process like a failed sync, with the same status and log line. In
// some of these cases Pebble panics and then panics again in its locks. In others it
// returns from opening while its background work still runs on closed state.
type Ordered struct {
	vfs.FS

	// Fatal ends the process. It must not return.
	Fatal func(doing string, err error)
}

const (
	markerPrefix  = "marker."
	logSuffix     = ".log"
	optionsSuffix = ".dbtmp" // the temporary name under which they are written
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

// made returns a new file, as a fatalFile if its name is that of a log or of options.
func (o Ordered) made(name string, f vfs.File, err error) (vfs.File, error) {
	if !strings.HasSuffix(name, logSuffix) && !strings.HasSuffix(name, optionsSuffix) {
		return f, err
	}
	if err != nil {
		o.Fatal("create a file of the store", err)
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

// fatalFile is a file whose failure ends the process.
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
