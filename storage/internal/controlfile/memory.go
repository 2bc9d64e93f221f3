package controlfile

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a control file in memory, for stores on an in-memory file system. It stands
// for the disk: opening it again returns its contents, and a crash forgets unsynced
// writes.
type Memory struct {
	writing sync.Mutex // held by the writing transaction

	// The maps are replaced, never changed.
	mu      sync.Mutex
	cells   map[string][]byte // what readers see
	written map[string][]byte // what may be on disk
	synced  map[string][]byte // what is on disk
	onSync  func() error
}

// NewMemory returns an empty control file.
func NewMemory() *Memory { return memoryOf(make(map[string][]byte)) }

// MemoryOf returns a control file with values, by bucket and key.
func MemoryOf(values map[string]map[string][]byte) *Memory {
	cells := make(map[string][]byte)
	for bucket, entries := range values {
		for key, value := range entries {
			cells[cell(bucket, key)] = value
		}
	}
	return memoryOf(cells)
}

func memoryOf(cells map[string][]byte) *Memory {
	return &Memory{cells: cells, written: cells, synced: cells}
}

// Open returns the file. It is the Control function of a store's configuration.
func (m *Memory) Open() (File, error) { return m, nil }

// OnSync sets the function that is called after a transaction is written and before it is
// synced. Its error is that of the sync. It may crash the disk meanwhile.
func (m *Memory) OnSync(sync func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onSync = sync
}

// Clone returns an independent copy with what survives any crash at this moment.
func (m *Memory) Clone() *Memory { return m.CrashClone(false) }

// CrashClone returns what a crash at this moment leaves: without unsynced writes, or, if
// unsynced is set, with them.
func (m *Memory) CrashClone(unsynced bool) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if unsynced {
		return memoryOf(m.written)
	}
	return memoryOf(m.synced)
}

// View implements [File].
func (m *Memory) View(use func(tx Tx) error) error {
	m.mu.Lock()
	cells := m.cells
	m.mu.Unlock()
	return use(memoryTx{cells})
}

// Update implements [File]. It applies all of change, or nothing if change fails. After a
// failed sync readers see none of it, but the disk may have all of it.
func (m *Memory) Update(change func(tx Tx) error) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	before, sync := m.cells, m.onSync
	m.mu.Unlock()
	next := maps.Clone(before)
	if err := change(memoryTx{next}); err != nil {
		return err
	}
	m.become(next, next, nil)
	if sync != nil {
		if err := sync(); err != nil {
			m.become(before, next, nil)
			return err
		}
	}
	m.become(next, next, next)
	return nil
}

// become sets what readers see, what may be on disk, and what is. A nil synced leaves the
// last unchanged.
func (m *Memory) become(cells, written, synced map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cells, m.written = cells, written
	if synced != nil {
		m.synced = synced
	}
}

// Close implements [File]. The contents stay for the next Open.
func (m *Memory) Close() error { return nil }

type memoryTx struct{ cells map[string][]byte }

func cell(bucket, key string) string { return bucket + "\x00" + key }

func (t memoryTx) Get(bucket, key string) []byte { return t.cells[cell(bucket, key)] }

func (t memoryTx) Put(bucket, key string, value []byte) error {
	t.cells[cell(bucket, key)] = slices.Clone(value)
	return nil
}

func (t memoryTx) Delete(bucket, key string) error {
	delete(t.cells, cell(bucket, key))
	return nil
}

func (t memoryTx) Scan(bucket, from string, each func(key string, value []byte) bool) {
	prefix := cell(bucket, "")
	for _, name := range slices.Sorted(maps.Keys(t.cells)) {
		key, ok := strings.CutPrefix(name, prefix)
		if ok && key >= from && !each(key, t.cells[name]) {
			return
		}
	}
}
