package controlfile

// File is the small key-value file beside the database: transactions that are
// durable when Update returns. bbolt is the real one; tests of crashes bring one
// that can forget what was not synced ([Memory]).
type File interface {
	View(use func(tx Tx) error) error
	Update(change func(tx Tx) error) error
	Close() error
}

// Tx reads and writes within one transaction. Values are valid until it
// ends. No transaction may outlive one page of results in memory.
type Tx interface {
	// Get returns nil for a key that is not there.
	Get(bucket, key string) []byte
	Put(bucket, key string, value []byte) error
	Delete(bucket, key string) error
	// Scan calls each in key order from the first key not before from, until it
	// returns false.
	Scan(bucket, from string, each func(key string, value []byte) bool)
}

// Buckets of the state: both hold the same.
const (
	bucketState     = "state"
	bucketStateCopy = "state_copy"
)

// Buckets of format 1, in which dead letters, jobs and the drain's position are in
// the control file.
const (
	Format1Letters         = "dead_letters"
	Format1LetterGroups    = "dead_letter_groups" // an index, without checksums
	Format1LetterReceivers = "dead_letter_receivers"
	Format1Jobs            = "jobs"
)

// StateBuckets returns the names of the buckets that hold the state. Each has a pad
// that is too large for bbolt to keep the bucket inside its parent's page, so that
// they share no page.
func StateBuckets() []string { return []string{bucketState, bucketStateCopy} }

// Format1Buckets returns the names of the buckets that only format 1 has.
func Format1Buckets() []string {
	return []string{Format1Letters, Format1LetterGroups, Format1LetterReceivers, Format1Jobs}
}

// Buckets returns the names of all buckets that a file may have, those of the
// previous format included: a bucket of another name is one whose name was damaged.
func Buckets() []string { return append(StateBuckets(), Format1Buckets()...) }
