package storage

import (
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// Format is the version of everything that is on disk. [Open] upgrades format 1.
const Format = layout.Format

// What keeps a data directory from being opened. Each has an exit status of
// its own; the sentence of the error says what to do.
var (
	// ErrLocked says that another process has the directory.
	ErrLocked = layout.ErrLocked
	// ErrCorrupt says that the store is damaged or holds less than was
	// acknowledged. Nothing was changed.
	ErrCorrupt = layout.ErrCorrupt
	// ErrFormat says that the store is of a format that this program does not
	// know. Nothing was changed.
	ErrFormat = layout.ErrFormat
	// ErrDiskFull says that there is no room to open, or to write.
	ErrDiskFull = layout.ErrDiskFull
	// ErrNotFound says that a key is not there.
	ErrNotFound = layout.ErrNotFound
)

// Free returns how many bytes an ordinary user may still write to the disk of a
// directory.
func Free(dir string) (uint64, error) { return layout.Free(dir) }

// InUse returns [ErrLocked] where another process has a data directory; nil where
// none does or where that cannot be told.
func InUse(dir string) error { return layout.InUse(dir) }

// The control file.
type (
	// Control is the state of the node itself.
	Control = controlfile.Control
	// ControlFile is the small key-value file beside the database.
	ControlFile = controlfile.File
	// Watermark is what was acknowledged at least.
	Watermark = controlfile.Watermark
	// MemoryControl is a control file in memory, for stores on a file system in
	// memory.
	MemoryControl = controlfile.Memory
)

// NewMemoryControl returns an empty control file in memory.
func NewMemoryControl() *MemoryControl { return controlfile.NewMemory() }

// Access to the tables.
type (
	// Reader reads the tables of a store: as they are at each call ([Store]), or as
	// they were at one moment ([Snapshot]).
	Reader = tables.Reader
	// RecordReader reads several records, best in their order.
	RecordReader = tables.RecordReader
	// Snapshot reads a store as it was when the snapshot was taken.
	Snapshot = tables.Snapshot
	// Writer adds puts and deletes to a [Batch].
	Writer = tables.Writer
	// Batch gathers one change of the database.
	Batch = tables.Batch
)
