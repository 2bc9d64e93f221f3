package controlfile

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a control file in memory, for stores on a file system in
// memory. Opening it again returns what was there: it stands for the disk, and
// forgets in a crash what was not synced.
type Memory struct {
	writing sync.Mutex // held by the one transaction that writes

	// The maps are replaced whole and never changed.
	mu      sync.Mutex
	cells   map[string][]byte // what readers see
	written map[string][]byte // what may be on disk
	synced  map[string][]byte // what is
	onSync  func() error
}

// NewMemory returns an empty one.
func NewMemory() *Memory { return memoryOf(make(map[string][]byte)) }

// MemoryOf returns one that has values, by bucket and key.
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

// Open returns the file: it is the function by which a store opens it.
func (m *Memory) Open() (File, error) { return m, nil }

// OnSync sets what is called when a transaction is written and not yet synced.
// Its error is the sync's; nil is none. It may crash the disk meanwhile.
func (m *Memory) OnSync(sync func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onSync = sync
}

// Clone returns an independent copy: what a crash at this moment would leave at
// least.
func (m *Memory) Clone() *Memory { return m.CrashClone(false) }

// CrashClone returns what a crash at this moment would leave: without what was not
// synced, or, by chance, with it.
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

// Update implements [File]: all of change, or nothing when it fails. After
// a sync that failed readers see nothing of it, and the disk may have all.
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

// become sets what readers see, what may be on disk, and what is; nil leaves
// that.
func (m *Memory) become(cells, written, synced map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cells, m.written = cells, written
	if synced != nil {
		m.synced = synced
	}
}

// Close implements [File]; what is there stays for the next Open.
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
