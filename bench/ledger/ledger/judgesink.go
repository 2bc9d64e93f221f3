package ledger

import "strings"

// django judges a sink's file: each message once, in the order of its conversation
// except for messages that had errors, and permanently refused messages among the dead
// letters.
func (j *judge) django(path string, dead []received) error {
	s := sinkJudge{judge: j, erred: make(map[string]bool), forGood: make(map[string]bool), seen: make(map[string]bool), conversations: make(map[string]*received)}
	if err := readLines(path, s.line); err != nil {
		return err
	}
	deadIDs := make(map[string]bool)
	for i := range dead {
		m := &dead[i]
		if deadIDs[m.id] {
			j.find(Duplicated, "%s is a dead letter twice", m.ref)
		}
		deadIDs[m.id] = true
		if !s.forGood[m.id] {
			j.find(Lost, "%s became a dead letter without a permanent refusal", m.ref)
		}
		if user, ok := j.ledger.plan.userNumber(m.user); ok {
			if _, state := j.check(m, user, "dead letter"); state != nil {
				state.dead = true
				j.verdict.Dead++
			}
		}
	}
	return nil
}

type sinkJudge struct {
	*judge

	seen          map[string]bool // ids
	erred         map[string]bool
	forGood       map[string]bool
	conversations map[string]*received // the last message of each
}

func (s *sinkJudge) line(words []string) error {
	f := fields{words: words[1:]}
	switch words[0] {
	case lineErred:
		s.erred[f.word()] = true
	case lineForGood:
		s.forGood[f.word()] = true
	case lineForeign:
		s.find(Unknown, "Django: %s", strings.Join(words[1:], " "))
	case lineReplied:
	case lineStored:
		m, err := parseWord(f.word())
		if err != nil {
			return err
		}
		s.stored(&m, f.word())
	default:
		return ErrCorrupt
	}
	return f.err
}

func (s *sinkJudge) stored(m *received, user string) {
	if s.seen[m.id] {
		s.find(Duplicated, "Django has id %s (%s) twice", m.id, m.ref)
	}
	s.seen[m.id] = true
	number, ok := s.ledger.plan.userNumber(user)
	if !ok {
		s.find(Unknown, "Django: %s for user %s", m.ref, user)
		return
	}
	it, state := s.check(m, number, "Django")
	if state == nil {
		return
	}
	state.stored = true
	s.verdict.Stored++
	if s.message(m.ref).known {
		s.find(Unknown, "Django got %s, which was marked as stored there already", m.ref)
	}
	conversation := s.call(m.ref.Call).conversations[it]
	if s.erred[m.id] || conversation == "" {
		return
	}
	if last := s.conversations[conversation]; last != nil && m.sequence < last.sequence {
		s.find(Reordered, "Django got %s (sequence %d) after %s (sequence %d) of conversation %s", m.ref, m.sequence, last.ref, last.sequence, conversation)
		return
	}
	s.conversations[conversation] = m
}
