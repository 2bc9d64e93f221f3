package tables

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Batch collects the writes of one commit. [Batch.Commit] makes all of them durable at
// once, or none. It is not safe for concurrent use. Package wal makes the batches of an
// open store; others are made only while a store is opened, repaired or upgraded.
type Batch struct {
	*Writer

	db *pebble.DB
}

// Config configures commits.
type Config struct {
	// NoSync commits without an fsync.
	NoSync bool
	// Fatal is called after a failed write or sync. It must not return.
	Fatal  func(doing string, err error)
	Logger *slog.Logger
}

// NewBatch returns an empty batch for one commit. The caller closes it, committed or not.
func NewBatch(db *pebble.DB, config *Config) *Batch {
	return &Batch{&Writer{config: config, batch: db.NewBatch()}, db}
}

// Commit makes the batch durable and returns after the fsync. It returns no error: a
// failed write or sync ends the process (see [Config]), because the contents of the disk
// are unknown after a failed fsync.
func (b *Batch) Commit() {
	b.Apply()
	b.Wait()
}

// Apply is the first half of Commit. Readers of the store see the batch, but it is not
// durable until Wait returns. Batches become durable in the order of their Apply.
func (b *Batch) Apply() {
	write := func() error { return b.db.ApplyNoSyncWait(b.batch, pebble.Sync) }
	if b.config.NoSync {
		write = func() error { return b.db.Apply(b.batch, pebble.NoSync) }
	}
	if err := write(); err != nil {
		b.config.Fatal("write the store", err)
	}
}

// Wait is the second half of Commit: it returns when the batch is durable.
func (b *Batch) Wait() {
	if b.config.NoSync {
		return
	}
	if err := b.batch.SyncWait(); err != nil {
		b.config.Fatal("sync the store", err)
	}
}

// Reset empties the batch for reuse.
func (b *Batch) Reset() { b.batch.Reset() }

// Close releases the batch's memory.
func (b *Batch) Close() {
	if err := b.batch.Close(); err != nil {
		b.config.Logger.Error("close a batch", "error", err)
	}
}

// PutMeta writes the meta record. Every commit does.
func (b *Batch) PutMeta(m schema.Meta) {
	b.set([]byte{schema.TableMeta}, schema.MetaLen, m.Encode)
}

// Set writes a raw key. Only upgrade and repair use it.
func Set(b *Batch, key, value []byte) { b.must(b.batch.Set(key, value, nil)) }

// Delete removes a raw key. Only upgrade and repair use it.
func Delete(b *Batch, key []byte) { b.must(b.batch.Delete(key, nil)) }

// DeleteRange removes the keys in [from, to). Only upgrade and repair use it.
func DeleteRange(b *Batch, from, to []byte) { b.must(b.batch.DeleteRange(from, to, nil)) }
