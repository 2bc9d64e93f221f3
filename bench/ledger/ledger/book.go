package ledger

import (
	"fmt"
	"strconv"
	"strings"
)

// parsedLedger is the content of a ledger file.
type parsedLedger struct {
	plan     Plan
	reserved []span
	answered map[uint64]answered
	refused  map[uint64]bool
	takes    []*takeRecord // in the order in which they were announced
	byTake   map[uint64]*takeRecord
	// cuts holds when each reader's connection broke.
	cuts   map[connection]int64
	faults []string
	// restarted reports that the service was restarted after the last take.
	restarted bool
}

type span struct{ from, to uint64 }

// connection identifies one connection of a reader.
type connection struct{ reader, epoch int }

// takeRecord is one take and its outcome.
type takeRecord struct {
	on     connection
	user   int
	count  int
	leased bool

	nothing  bool // it was not sent, or it was refused
	answered bool
	late     bool // answered after the power was cut
	when     int64
	messages []received

	ending    string // acked or nacked, if that was tried
	ended     bool
	endedLate bool
	results   []string
}

func readLedger(path string) (*parsedLedger, error) {
	b := &parsedLedger{
		answered: make(map[uint64]answered), refused: make(map[uint64]bool),
		byTake: make(map[uint64]*takeRecord), cuts: make(map[connection]int64),
	}
	if err := readLines(path, b.line); err != nil {
		return nil, err
	}
	if !b.plan.valid() {
		return nil, fmt.Errorf("%s: %w: it has no head line", path, ErrCorrupt)
	}
	return b, nil
}

func (b *parsedLedger) line(words []string) error {
	f := fields{words: words[1:]}
	switch words[0] {
	case lineHead:
		if f.number() != 1 {
			return fmt.Errorf("%w: another version", ErrCorrupt)
		}
		b.plan = Plan{Seed: f.number(), Users: f.integer(), Conversations: f.integer(), Text: f.integer()}
	case lineReserved:
		b.reserved = append(b.reserved, span{f.number(), f.number()})
	case lineAnswered:
		b.answered[f.number()] = answered{sequence: f.number(), ids: f.rest()}
	case lineRefused:
		b.refused[f.number()] = true
	case lineCut:
		c := connection{f.integer(), f.integer()}
		if _, ok := b.cuts[c]; !ok {
			b.cuts[c] = int64(f.number()) //nolint:gosec // a time
		}
	case lineFault:
		b.faults = append(b.faults, strings.Join(words[1:], " "))
	case lineRestart:
		b.restarted = true
	default:
		b.takeLine(words[0], &f)
	}
	return f.err
}

// takeLine parses the lines about one take.
func (b *parsedLedger) takeLine(what string, f *fields) {
	number := f.number()
	if what == lineTaking {
		t := &takeRecord{on: connection{f.integer(), f.integer()}, user: f.integer(), count: f.integer(), leased: f.word() == "leased"}
		b.takes = append(b.takes, t)
		b.byTake[number] = t
		return
	}
	t := b.byTake[number]
	if t == nil {
		f.err = ErrCorrupt
		return
	}
	switch what {
	case lineNothing:
		t.nothing = true
	case lineTook:
		t.answered, t.when, t.late = true, int64(f.number()), f.word() == wordLate //nolint:gosec // a time
		for _, word := range f.rest() {
			m, err := parseWord(word)
			if err != nil {
				f.err = err
			}
			t.messages = append(t.messages, m)
		}
		b.restarted = false
	case lineEnding:
		t.ending = f.word()
	case lineEnded:
		f.number()
		t.ended, t.endedLate, t.results = true, f.word() == wordLate, f.rest()
		if len(t.results) != len(t.messages) {
			f.err = ErrCorrupt
		}
	default:
		f.err = fmt.Errorf("%w: a line that begins with %q", ErrCorrupt, what)
	}
}

// sent reports whether a call may have been sent.
func (b *parsedLedger) sent(call uint64) bool {
	for _, s := range b.reserved {
		if call >= s.from && call <= s.to {
			return true
		}
	}
	return false
}

// fields parses the words of a line one after the other. err is the first error.
type fields struct {
	words []string
	err   error
}

func (f *fields) word() string {
	if len(f.words) == 0 {
		f.err = ErrCorrupt
		return ""
	}
	word := f.words[0]
	f.words = f.words[1:]
	return word
}

func (f *fields) rest() []string {
	words := f.words
	f.words = nil
	return words
}

func (f *fields) number() uint64 {
	n, err := strconv.ParseUint(f.word(), 10, 64)
	if err != nil {
		f.err = ErrCorrupt
	}
	return n
}

func (f *fields) integer() int {
	n := f.number()
	if n > 1<<31 {
		f.err = ErrCorrupt
		return 0
	}
	return int(n)
}

// parseWord is the inverse of [received.word].
func parseWord(word string) (m received, err error) {
	parts := strings.Split(word, "/")
	if len(parts) != 4 {
		return m, ErrCorrupt
	}
	var ok bool
	if m.ref, ok = parseRef(parts[0]); !ok {
		return m, ErrCorrupt
	}
	if m.sequence, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return m, ErrCorrupt
	}
	m.id = parts[2]
	if m.digest, err = strconv.ParseUint(parts[3], 16, 64); err != nil {
		return m, ErrCorrupt
	}
	return m, nil
}
