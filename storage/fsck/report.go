package fsck

import "fmt"

// Problem is one defect of a store.
type Problem struct {
	// Where is the file, the record or the entry.
	Where string `json:"where"`
	// What is the defect.
	What string `json:"what"`
}

// Report is the result of a check.
type Report struct {
	// Format is the store's format. The next start upgrades format 1.
	Format uint32 `json:"format"`
	// UpgradeUnfinished reports that an upgrade to the current format was interrupted. It
	// is not a problem: the next start finishes it.
	UpgradeUnfinished bool `json:"upgrade_unfinished"`
	// First and Last are the lowest and highest sequence of the records.
	First uint64 `json:"first_sequence"`
	Last  uint64 `json:"last_sequence"`
	// Records counts records. Broadcasts, Lost and Trimmed count those that are
	// broadcasts, that an earlier repair put in the place of lost ones, and that were
	// trimmed early.
	Records    uint64 `json:"records"`
	Broadcasts uint64 `json:"broadcasts"`
	Lost       uint64 `json:"lost_records"`
	Trimmed    uint64 `json:"trimmed_records"`
	// Entries is the number of queue entries, and Users the number of queues.
	Entries     uint64 `json:"queue_entries"`
	Users       uint64 `json:"queues"`
	DeadLetters uint64 `json:"dead_letters"`
	// Problems are the first problems found, and Found is the number of all.
	Problems []Problem `json:"problems"`
	Found    uint64    `json:"problems_found"`
}

// maxProblems bounds the problems listed in a report.
const maxProblems = 1000

// Add counts a problem, and lists it unless there are too many.
func (r *Report) Add(where, what string, args ...any) {
	r.Found++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(what, args...)})
	}
}
