package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stayafrica/messaging"
)

// Scope is a set of kinds of calls. A token has one, and each call needs one kind.
type Scope uint8

// The kinds of calls.
const (
	// Send is sends, batches and broadcasts.
	Send Scope = 1 << iota
	// Take is takes, with or without a lease, the calls on receipts, and clearing.
	Take
	// Peek is reads that take nothing: peeks and sizes.
	Peek
	// Follow is push connections.
	Follow
	// Operate is dead letters, jobs, replays and statistics.
	Operate
	// Metrics is /metrics.
	Metrics

	// Everything is the scope of API_TOKENS, and of all callers if there are no tokens.
	Everything = Send | Take | Peek | Follow | Operate | Metrics
	// AnyCall is the need of a call that each caller may make whose scope is more than
	// Metrics.
	AnyCall = Everything &^ Metrics
)

// scopeNames are the names of the kinds, in the order of their bits.
var scopeNames = []string{"send", "take", "peek", "follow", "operate", "metrics"}

// ScopeNames returns the names that [ParseScope] reads.
func ScopeNames() []string { return slices.Clone(scopeNames) }

// ParseScope returns the kind with a name; ok is false for an unknown name.
func ParseScope(name string) (s Scope, ok bool) {
	i := slices.Index(scopeNames, name)
	if i < 0 {
		return 0, false
	}
	return 1 << i, true
}

// String returns the names of the kinds, separated by commas.
func (s Scope) String() string {
	var names []string
	for i, name := range scopeNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Pattern names users: one user id, or a prefix of user ids followed by *.
type Pattern string

// ParsePattern checks a pattern.
func ParsePattern(text string) (Pattern, error) {
	prefix, isPrefix := strings.CutSuffix(text, "*")
	if isPrefix && prefix == "" {
		return Pattern(text), nil
	}
	// Every prefix of a user id is one, but for "." and "..".
	if _, ok := messaging.ParseUserID(prefix); !ok && (!isPrefix || strings.Trim(prefix, ".") != "") {
		return "", fmt.Errorf("%q is not a user id, or a prefix of user ids with * at its end", text)
	}
	return Pattern(text), nil
}

// Matches reports whether the pattern names the user.
func (p Pattern) Matches(user messaging.UserID) bool {
	if prefix, ok := strings.CutSuffix(string(p), "*"); ok {
		return strings.HasPrefix(string(user), prefix)
	}
	return string(p) == string(user)
}
