package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
)

// letterModel is the model of the store of dead letters: the single failure of each
// recipient of a message, and the other fields of each letter.
type letterModel struct {
	recipients map[modelRecipient]modelFailure
	letters    map[modelLetter]modelTimes
	running    map[string]bool
	queued     map[modelRecipient]bool // of undeliverable kind
	position   messaging.Position
}

type modelRecipient struct {
	kind messaging.DeadLetterKind
	seq  uint64
	user messaging.UserID
}

type modelFailure struct {
	reason   string
	attempts int
	job      string
	// refusedIn is the job in which it was refused last.
	refusedIn string
}

type modelLetter struct {
	kind   messaging.DeadLetterKind
	seq    uint64
	reason string
}

type modelTimes struct {
	failed, last time.Time
	attempts     int
	recipients   int
}

func newLetterModel() *letterModel {
	return &letterModel{
		recipients: make(map[modelRecipient]modelFailure), letters: make(map[modelLetter]modelTimes),
		running: make(map[string]bool), queued: make(map[modelRecipient]bool),
	}
}

func (m *letterModel) remove(r modelRecipient) {
	k := modelLetter{r.kind, r.seq, m.recipients[r].reason}
	delete(m.recipients, r)
	times := m.letters[k]
	if times.recipients--; times.recipients == 0 {
		delete(m.letters, k)
	} else {
		m.letters[k] = times
	}
}

func (m *letterModel) put(r modelRecipient, reason string, attempts int, at time.Time) {
	k := modelLetter{r.kind, r.seq, reason}
	times, ok := m.letters[k]
	if !ok {
		times = modelTimes{failed: at, last: at}
	}
	times.recipients++
	times.attempts = max(times.attempts, attempts)
	if at.After(times.last) {
		times.last = at
	}
	m.letters[k], m.recipients[r] = times, modelFailure{reason: reason, attempts: attempts}
}

func (m *letterModel) add(r modelRecipient, reason string, attempts int, at time.Time) {
	if f, ok := m.recipients[r]; ok {
		if f.reason == reason || m.running[f.job] {
			return
		}
		m.remove(r)
	}
	m.put(r, reason, attempts, at)
}

func (m *letterModel) claim(r modelRecipient, reason, job string) messaging.Claim {
	f, ok := m.recipients[r]
	switch {
	case !ok || f.reason != reason:
		return messaging.ClaimGone
	case f.refusedIn == job:
		return messaging.ClaimRefused
	case f.job != job && m.running[f.job]:
		return messaging.ClaimedElsewhere
	}
	f.job, f.refusedIn = job, ""
	m.recipients[r] = f
	return messaging.Claimed
}

// drop removes a letter.
func (m *letterModel) drop(k modelLetter) {
	for r, f := range m.recipients {
		if r.kind == k.kind && r.seq == k.seq && f.reason == k.reason {
			delete(m.recipients, r)
		}
	}
	delete(m.letters, k)
}

// String describes the model in the form of [letterMachine.describe].
func (m *letterModel) String() string {
	var lines []string
	for k, times := range m.letters {
		var users []string
		for r, f := range m.recipients {
			if r.kind == k.kind && r.seq == k.seq && f.reason == k.reason {
				users = append(users, string(r.user))
			}
		}
		slices.Sort(users)
		lines = append(lines, fmt.Sprintf("%s %d %s: %d %d %v", k.kind, k.seq, k.reason, times.attempts, times.failed.Unix(), users))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%q, at %d, jobs %v, queued %d", lines, m.position.Sequence, slices.Sorted(maps.Keys(m.running)), len(m.queued))
}
