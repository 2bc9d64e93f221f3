package storage

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// orderedFS is a file system on which a marker never becomes durable before the
// file that it names. Pebble writes a manifest, then a marker with its name, and
// then syncs the directory once for both: where the power goes before that, a
// disk may have kept the marker alone, and the database does not open any more.
type orderedFS struct{ vfs.FS }

const markerPrefix = "marker."

// Create implements [vfs.FS].
func (o orderedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), markerPrefix) {
		if err := syncDir(o.FS, o.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return o.FS.Create(name, category)
}

// Unwrap implements [vfs.FS].
func (o orderedFS) Unwrap() vfs.FS { return o.FS }

// syncDir makes the names in a directory durable.
func syncDir(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
