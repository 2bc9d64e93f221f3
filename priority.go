package messaging

// Priority says which messages of a queue go first: all of a higher one before
// any of a lower one. The numbers are stored on disk and order the keys of a
// queue, so they never change.
type Priority uint8

// The three priorities there are, first served first.
const (
	High Priority = iota
	Normal
	Low

	// Priorities is how many there are, for arrays indexed by one.
	Priorities = 3
)

var priorityNames = [Priorities]string{"high", "normal", "low"}

// String gives the name that clients use.
func (p Priority) String() string {
	if int(p) < len(priorityNames) {
		return priorityNames[p]
	}
	return "unknown"
}

// ParsePriority reads a name that a client gave. Names are exact: "HIGH" is
// none of them.
func ParsePriority(name string) (Priority, bool) {
	for i, n := range priorityNames {
		if n == name {
			return Priority(i), true
		}
	}
	return Normal, false
}
