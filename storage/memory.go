package storage

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// MemoryControl is a control file in memory, for stores on a file system in
// memory. Opening it again gives what was there: it stands for the disk, and
// forgets in a crash what was not synced.
type MemoryControl struct {
	writing sync.Mutex // held by the one transaction that writes

	// The maps are replaced whole and never changed.
	mu      sync.Mutex
	cells   map[string][]byte // what readers see
	written map[string][]byte // what may be on disk
	synced  map[string][]byte // what is
	onSync  func() error
}

// NewMemoryControl gives an empty one.
func NewMemoryControl() *MemoryControl { return memoryControl(make(map[string][]byte)) }

func memoryControl(cells map[string][]byte) *MemoryControl {
	return &MemoryControl{cells: cells, written: cells, synced: cells}
}

// Open gives the control file for [Config.Control].
func (m *MemoryControl) Open() (ControlFile, error) { return m, nil }

// OnSync sets what is called when a transaction is written and not yet synced.
// Its error is the sync's; nil is none. It may crash the disk meanwhile.
func (m *MemoryControl) OnSync(sync func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onSync = sync
}

// Clone gives an independent copy: what a crash at this moment would leave at
// least.
func (m *MemoryControl) Clone() *MemoryControl { return m.CrashClone(false) }

// CrashClone gives what a crash at this moment would leave: without what was not
// synced, or, by chance, with it.
func (m *MemoryControl) CrashClone(unsynced bool) *MemoryControl {
	m.mu.Lock()
	defer m.mu.Unlock()
	if unsynced {
		return memoryControl(m.written)
	}
	return memoryControl(m.synced)
}

// View implements [ControlFile].
func (m *MemoryControl) View(use func(tx ControlTx) error) error {
	m.mu.Lock()
	cells := m.cells
	m.mu.Unlock()
	return use(memoryTx{cells})
}

// Update implements [ControlFile]: all of change, or nothing when it fails. After
// a sync that failed readers see nothing of it, and the disk may have all.
func (m *MemoryControl) Update(change func(tx ControlTx) error) error {
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
func (m *MemoryControl) become(cells, written, synced map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cells, m.written = cells, written
	if synced != nil {
		m.synced = synced
	}
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
