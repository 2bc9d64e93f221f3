// Package diskfs provides the file systems between Pebble and the disk. [Ordered] makes
// file names durable in order and ends the process on a failure. [DeferredRemove] removes files only after
// the store is accepted. [Prealloc] preallocates logs. [ReadOnly] refuses writes.
// [CompactionLimit], [Ballast] and [WaitForSpace] handle a full disk.
package diskfs
