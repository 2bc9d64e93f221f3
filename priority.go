package messaging

// Priority orders the messages of a queue: all messages of a higher priority before
// any of a lower one. The numbers are stored on disk and order the keys of a queue,
// so they never change.
type Priority uint8

// The priorities, highest first.
const (
	High Priority = iota
	Normal
	Low

	// Priorities is the number of priorities, for arrays indexed by Priority.
	Priorities = 3
)

var priorityNames = [Priorities]string{"high", "normal", "low"}

// String returns the name of the priority in the API.
func (p Priority) String() string {
	if int(p) < len(priorityNames) {
		return priorityNames[p]
	}
	return "unknown"
}

// ParsePriority parses the name of a priority in the API. Names are case-sensitive:
// "HIGH" is not one.
func ParsePriority(name string) (Priority, bool) {
	for i, n := range priorityNames {
		if n == name {
			return Priority(i), true
		}
	}
	return Normal, false
}
