// Package diskfs has the file systems that stand between Pebble and the disk, each
// for one job: names in order and failures that end the process ([Ordered]), files
// that are removed only once a store is accepted ([DeferredRemove]), logs over
// zeros ([Prealloc]), reading without writing ([ReadOnly]), and what a full disk
// needs ([Ballast], [WaitForSpace]).
package diskfs
