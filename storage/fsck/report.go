package fsck

import "fmt"

// Problem is one thing that is wrong with a store.
type Problem struct {
	// Where names the file, the record or the entry.
	Where string `json:"where"`
	// What says what is wrong with it.
	What string `json:"what"`
}

// Report is what a check found.
type Report struct {
	// Format is the store's: 1 is upgraded by the next start.
	Format uint32 `json:"format"`
	// UpgradeUnfinished says that an upgrade to the current one was cut off. It is no
	// problem: the next start finishes it.
	UpgradeUnfinished bool `json:"upgrade_unfinished"`
	// First and Last are the sequences of the records there are.
	First uint64 `json:"first_sequence"`
	Last  uint64 `json:"last_sequence"`
	// Records, Broadcasts, Lost, Trimmed: records, those of them that are
	// broadcasts, those that an earlier repair put in the place of lost ones, and
	// those that were trimmed early.
	Records    uint64 `json:"records"`
	Broadcasts uint64 `json:"broadcasts"`
	Lost       uint64 `json:"lost_records"`
	Trimmed    uint64 `json:"trimmed_records"`
	// Entries and Users: how many entries are in queues, and in how many queues.
	Entries     uint64 `json:"queue_entries"`
	Users       uint64 `json:"queues"`
	DeadLetters uint64 `json:"dead_letters"`
	// Problems are the first of those that were found, Found how many there were.
	Problems []Problem `json:"problems"`
	Found    uint64    `json:"problems_found"`
}

// maxProblems bounds how many problems a report tells one by one.
const maxProblems = 1000

// Add counts a problem, and tells of it unless there are too many.
func (r *Report) Add(where, what string, args ...any) {
	r.Found++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(what, args...)})
	}
}
