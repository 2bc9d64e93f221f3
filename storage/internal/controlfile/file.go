package controlfile

// File is the small key-value file next to the database. Its transactions are durable
// when Update returns. The real one is bbolt. Crash tests use one that can forget
// unsynced writes ([Memory]).
type File interface {
	View(use func(tx Tx) error) error
	Update(change func(tx Tx) error) error
	Close() error
}

// Tx reads and writes within one transaction. Values are valid until it ends. A
// transaction must not stay open for longer than one page of results.
type Tx interface {
	// Get returns nil if the key does not exist.
	Get(bucket, key string) []byte
	Put(bucket, key string, value []byte) error
	Delete(bucket, key string) error
	// Scan calls each in key order, beginning with the first key at or after from, until
	// each returns false.
	Scan(bucket, from string, each func(key string, value []byte) bool)
}

// Buckets of the state. Both have the same contents.
const (
	bucketState     = "state"
	bucketStateCopy = "state_copy"
)

// Buckets of format 1, which has dead letters, jobs and the drain's position in the
// control file.
const (
	Format1Letters         = "dead_letters"
	Format1LetterGroups    = "dead_letter_groups" // an index, without checksums
	Format1LetterReceivers = "dead_letter_receivers"
	Format1Jobs            = "jobs"
)

// StateBuckets returns the names of the buckets that hold the state. Each has a pad that
// is too large for bbolt to keep the bucket in its parent's page, so the two share no
// page.
func StateBuckets() []string { return []string{bucketState, bucketStateCopy} }

// Format1Buckets returns the names of the buckets that exist only in format 1.
func Format1Buckets() []string {
	return []string{Format1Letters, Format1LetterGroups, Format1LetterReceivers, Format1Jobs}
}

// Buckets returns the names of all buckets that a file may have, including those of
// format 1. Any other name is damage.
func Buckets() []string { return append(StateBuckets(), Format1Buckets()...) }
