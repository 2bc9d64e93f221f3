package storage

import (
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// Format is the version of the files on disk. [Open] upgrades format 1.
const Format = layout.Format

// Errors of [Open]. Each has its own exit status, and its text says what to do.
var (
	// ErrForeign means that a directory is not a data directory of this user. Nothing was
	// changed.
	ErrForeign = layout.ErrForeign
	// ErrLocked means that another process uses the directory.
	ErrLocked = layout.ErrLocked
	// ErrCorrupt means that the store is damaged or holds less than was acknowledged.
	// Nothing was changed.
	ErrCorrupt = layout.ErrCorrupt
	// ErrFormat means that this program does not know the store's format. Nothing was
	// changed.
	ErrFormat = layout.ErrFormat
	// ErrDiskFull means that there is too little space to open or to write.
	ErrDiskFull = layout.ErrDiskFull
	// ErrNotFound means that a key does not exist.
	ErrNotFound = layout.ErrNotFound
)

// Free returns how many bytes an unprivileged user can still write to the disk of a
// directory.
func Free(dir string) (uint64, error) { return layout.Free(dir) }

// InUse returns [ErrLocked] if another process uses a data directory. It returns nil if
// none does or if this is unknown.
func InUse(dir string) error { return layout.InUse(dir) }

// The control file.
type (
	// Control is the node's own state.
	Control = controlfile.Control
	// ControlFile is the small key-value file next to the database.
	ControlFile = controlfile.File
	// Watermark is a lower bound of what was acknowledged.
	Watermark = controlfile.Watermark
	// MemoryControl is a control file in memory, for stores on an in-memory file system.
	MemoryControl = controlfile.Memory
)

// NewMemoryControl returns an empty control file in memory.
func NewMemoryControl() *MemoryControl { return controlfile.NewMemory() }

// Access to the tables.
type (
	// Reader reads the tables of a store: their current contents through a [Store], or
	// those of one moment through a [Snapshot].
	Reader = tables.Reader
	// RecordReader reads several records, fastest in ascending order.
	RecordReader = tables.RecordReader
	// Snapshot reads a store as of the moment when the snapshot was taken.
	Snapshot = tables.Snapshot
	// Writer adds puts and deletes to a [Batch].
	Writer = tables.Writer
	// Batch collects the writes of one commit.
	Batch = tables.Batch
)
