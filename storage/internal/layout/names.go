package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Names of the entries of the data directory.
const (
	// MessagesDir is the Pebble database.
	MessagesDir = "messages"
	// MessagesDir is the directory of the Pebble database.
	CreatingDir = "messages.new"
	// CreatingDir is the database's directory while the store is created.
	ControlName = "control.db"
	// LockName is the lock file of the process that uses the directory.
	LockName = "LOCK"
	// BallastName is the file that is removed to free space on a full disk.
	BallastName = "reserve"
	// RepairName exists while a repair moves files to their places.
	RepairName = "repair"
)

// Format versions, as stored in the control file.
const (
	// Format is the current version.
	Format = 2
	// Format1 is the previous version. A start upgrades it.
	Format1 = 1
	// FormatUpgrading marks an unfinished upgrade to [Format]. Older programs refuse it.
	FormatUpgrading = 1<<31 | Format
)

// HasStore reports whether a directory has a store or a part of one.
func HasStore(dir string) bool {
	names, err := os.ReadDir(dir)
	for _, n := range names {
		if strings.HasPrefix(n.Name(), MessagesDir) || n.Name() == ControlName {
			return true
		}
	}
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}

// NoStore returns the error for a directory without a store.
func NoStore(dir string) error {
	return fmt.Errorf("there is no store in %s: name its directory by --data-dir or DATA_DIR", dir) //nolint:err113 // a sentence for a person
}

// Messages returns the path of the database in a data directory.
func Messages(dir string) string { return filepath.Join(dir, MessagesDir) }

// Control returns the path of the control file in a data directory.
func Control(dir string) string { return filepath.Join(dir, ControlName) }
