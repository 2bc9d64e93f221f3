package tables

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Batch gathers one change of the database: all of it becomes durable at once,
// by [Batch.Commit], or none of it does. It is not safe for concurrent use.
// Package wal makes the batches of a store that is open; others are made only
// while a store is opened, repaired or upgraded.
type Batch struct {
	*Writer

	db *pebble.DB
}

// Config says what becomes of commits.
type Config struct {
	// NoSync leaves commits to the operating system's mercy.
	NoSync bool
	// Fatal is called where a write or a sync failed. It must not return.
	Fatal  func(doing string, err error)
	Logger *slog.Logger
}

// NewBatch returns an empty batch, for one commit. Close it when done, committed
// or not.
func NewBatch(db *pebble.DB, config *Config) *Batch {
	return &Batch{&Writer{config: config, batch: db.NewBatch()}, db}
}

// Commit makes the batch durable: it returns after the fsync. A write or sync
// that fails ends the process (see [Config]), because what a disk holds
// after a failed fsync cannot be known from here; no error comes back.
func (b *Batch) Commit() {
	b.Apply()
	b.Wait()
}

// Apply is the first half of Commit: the batch is in its place, and readers of
// the store see it, but it is not durable before Wait has returned. Batches
// become durable in the order in which they were applied.
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

// Reset empties the batch for its next use.
func (b *Batch) Reset() { b.batch.Reset() }

// Close returns the batch's memory back.
func (b *Batch) Close() {
	if err := b.batch.Close(); err != nil {
		b.config.Logger.Error("close a batch", "error", err)
	}
}

// PutMeta writes m, which every commit does.
func (b *Batch) PutMeta(m schema.Meta) {
	b.set([]byte{schema.TableMeta}, schema.MetaLen, m.Encode)
}

// Set writes a key as it is. Only an upgrade and a repair do so.
func Set(b *Batch, key, value []byte) { b.must(b.batch.Set(key, value, nil)) }

// Delete removes a key as it is. Only an upgrade and a repair do so.
func Delete(b *Batch, key []byte) { b.must(b.batch.Delete(key, nil)) }

// DeleteRange removes the keys in [from, to). Only an upgrade and a repair do so.
func DeleteRange(b *Batch, from, to []byte) { b.must(b.batch.DeleteRange(from, to, nil)) }
