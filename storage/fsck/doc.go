// Package fsck checks a store: every file's checksums, every record, and whether the
// tables agree with each other. It knows nothing of how the tables came about, and
// changes nothing. No service runs it.
//
// [Verify] checks a store that no process has open, [VerifyTables] the files of one
// that is served, [Check] the tables of one that the caller has open.
package fsck
