package layout

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free returns how many bytes an unprivileged user can still write to the disk of a
// directory.
func Free(dir string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("read the free space of %s: %w", dir, err)
	}
	return stat.Bavail * uint64(stat.Bsize), nil //nolint:gosec // a block size is positive
}
