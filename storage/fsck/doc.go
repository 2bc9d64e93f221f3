// Package fsck checks a store: the checksums of every file, every record, and whether the
// tables agree with each other. It does not depend on how the tables were written, and it
// changes nothing. It does not run in a service.
//
// [Verify] checks a store that no process has open, [VerifyTables] the files of a store
// in use, and [Check] the tables of a store that the caller has open.
package fsck
