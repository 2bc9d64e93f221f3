package storage

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// MemoryControl is a control file in memory, for stores on a file system in
// memory. Opening it again gives what was there: it stands for the disk.
type MemoryControl struct {
	mu    sync.RWMutex
	cells map[string][]byte
}

// NewMemoryControl gives an empty one.
func NewMemoryControl() *MemoryControl {
	return &MemoryControl{cells: make(map[string][]byte)}
}

// Open gives the control file for [Config.Control].
func (m *MemoryControl) Open() (ControlFile, error) { return m, nil }

// Clone gives an independent copy: what a crash at this moment would leave.
func (m *MemoryControl) Clone() *MemoryControl {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &MemoryControl{cells: maps.Clone(m.cells)}
}

// View implements [ControlFile].
func (m *MemoryControl) View(use func(tx ControlTx) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return use(memoryTx{m.cells})
}

// Update implements [ControlFile]: all of change, or nothing when it fails.
func (m *MemoryControl) Update(change func(tx ControlTx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(m.cells)
	if err := change(memoryTx{next}); err != nil {
		return err
	}
	m.cells = next
	return nil
}

// Close implements [ControlFile]; what is there stays for the next Open.
func (m *MemoryControl) Close() error { return nil }

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
