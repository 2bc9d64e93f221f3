package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrForeign means that a directory is not a data directory of this user. Nothing was
// changed.
var ErrForeign = errors.New("not a data directory of this service")

// NoFollow is the flag with which the files of the data directory are opened: a link could
// lead to a file of somebody else.
const NoFollow = unix.O_NOFOLLOW

// CheckOwned returns [ErrForeign] unless a directory is empty or a data directory of this
// user. It is called before anything is changed there: making the home directory of another
// program private would break that program.
func CheckOwned(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	hasControl, unknown := false, ""
	for _, e := range entries {
		switch name := e.Name(); {
		case isOurs(name) && e.Type()&fs.ModeSymlink != 0:
			return fmt.Errorf("%w: %s is a symbolic link, and links are not followed: put the file itself there", ErrForeign, filepath.Join(dir, name))
		case name == ControlName:
			hasControl = true
		case !isOurs(name):
			unknown = name
		}
	}
	if unknown != "" && !hasControl {
		return fmt.Errorf("%w: %s has no store, and is not empty (it has %q): name an empty directory, or one that does not exist yet", ErrForeign, dir, unknown)
	}
	if len(entries) == 0 || belongsToUs(dir) || belongsToUs(Control(dir)) {
		return nil
	}
	return fmt.Errorf("%w: %s belongs to another user than %d, who runs the service: chown it, or start the service as its owner", ErrForeign, dir, os.Geteuid())
}

// isOurs reports whether a name is one that a store or a repair creates, or that a file
// system creates in its root.
func isOurs(name string) bool {
	for _, prefix := range []string{MessagesDir, ControlName, LockName, BallastName, RepairName, "aside-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "lost+found"
}

func belongsToUs(path string) bool {
	var info unix.Stat_t
	return unix.Lstat(path, &info) == nil && int(info.Uid) == os.Geteuid()
}
