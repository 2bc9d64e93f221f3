package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
)

// Kind is what is wrong with a message.
type Kind string

// The kinds of findings.
const (
	Lost       Kind = "lost"
	Duplicated Kind = "duplicated"
	Reordered  Kind = "reordered"
	Altered    Kind = "altered"
	// Unknown was delivered, and nobody sent it, or it was refused.
	Unknown Kind = "unknown"
	// Fault is an answer that was wrong in itself.
	Fault Kind = "fault"
)

// Finding is something that the service promised not to do.
type Finding struct {
	Kind Kind
	What string
}

// Verdict is what a judge found.
type Verdict struct {
	// Answered counts messages for users that must be there; Open those that are
	// there although nobody was told. Excused are missing from a queue, and may
	// have been in an answer to a take for good that was cut off.
	Answered, Open, Excused int
	// Queued, Taken and Acknowledged are how many of all were found in the queues
	// at the end, had been taken for good, and had been acknowledged before.
	Queued, Taken, Acknowledged int
	// Stored and Dead are how many Django has, and how many are dead letters.
	Stored, Dead int
	// Findings are what is wrong, the first few of each kind.
	Findings []Finding

	counts map[Kind]int
}

// shownOfAKind bounds the findings that are kept.
const shownOfAKind = 4

// Count is how many findings there were of a kind.
func (v *Verdict) Count(k Kind) int { return v.counts[k] }

// String is the verdict in a few lines, with the first findings.
func (v *Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d answered, %d there of unknown fate; queues: %d there, %d taken, %d acknowledged, %d excused; Django: %d stored, %d dead letters; ",
		v.Answered, v.Open, v.Queued, v.Taken, v.Acknowledged, v.Excused, v.Stored, v.Dead)
	for _, k := range []Kind{Lost, Duplicated, Reordered, Altered, Unknown, Fault} {
		fmt.Fprintf(&b, "%d %s ", v.Count(k), k)
	}
	for _, f := range v.Findings {
		fmt.Fprintf(&b, "\n%s: %s", f.Kind, f.What)
	}
	return b.String()
}

// Evidence is where a judge looks.
type Evidence struct {
	// URL is the service. Its queues are read to their end under leases, and its
	// dead letters listed.
	URL string
	// Ledger is the file of the load; Sink that of the sink, empty for none. The
	// service must have drained all into it.
	Ledger, Sink string
}

// Judge compares what there is with the ledger. The error says that it could
// not; what it found is in the verdict.
func Judge(e Evidence) (*Verdict, error) {
	b, err := readBook(e.Ledger)
	if err != nil {
		return nil, err
	}
	left, err := readQueues(e.URL, b.plan)
	if err != nil {
		return nil, err
	}
	j := newJudge(b)
	j.queues(left)
	if e.Sink != "" {
		dead, err := readDeadLetters(e.URL)
		if err != nil {
			return nil, err
		}
		if err := j.django(e.Sink, dead); err != nil {
			return nil, err
		}
	}
	j.missing(e.Sink != "")
	return &j.verdict, nil
}

// judge is the state of one judgement.
type judge struct {
	book    *book
	verdict Verdict
	calls   map[uint64]*sentCall
	// owners says which message has a sequence.
	owners map[uint64]Ref
	items  map[item]*state
	// loose are messages that a service which was cut off already gave out.
	loose map[item]bool
	// excuses are how many messages of a user takes for good that were cut off
	// may have had.
	excuses map[int]int
}

// sentCall is what the judge keeps of a call of the plan.
type sentCall struct {
	items         []item
	digests       map[item]uint64
	conversations map[item]string
	messages      []message // without their bodies
	copied        bool      // a broadcast
}

// state is what is known of one message for one user.
type state struct {
	id       string
	sequence uint64
	queue    place
	taking   *taking // the last one that had it
	there    bool    // in its queue at the end
	stored   bool
	dead     bool
}

// place is where a message is, as far as its reader knows.
type place uint8

const (
	inQueue place = iota // or back in it
	leased
	taken
	acknowledged
	anywhere // gone or not: nobody was told
)

func newJudge(b *book) *judge {
	j := &judge{
		book: b, verdict: Verdict{counts: make(map[Kind]int)}, calls: make(map[uint64]*sentCall), owners: make(map[uint64]Ref),
		items: make(map[item]*state), loose: make(map[item]bool), excuses: make(map[int]int),
	}
	for _, text := range b.faults {
		j.find(Fault, "%s", text)
	}
	for number, a := range b.answered {
		c := j.call(number)
		for _, it := range c.items {
			j.verdict.Answered++
			id, sequence, err := a.of(it, c.copied)
			if err != nil {
				j.find(Fault, "call %d: %v", number, err)
				continue
			}
			j.identify(it, id, sequence)
		}
	}
	return j
}

func (j *judge) find(k Kind, format string, args ...any) {
	j.verdict.counts[k]++
	if j.verdict.counts[k] <= shownOfAKind {
		j.verdict.Findings = append(j.verdict.Findings, Finding{k, fmt.Sprintf(format, args...)})
	}
}

func (j *judge) call(number uint64) *sentCall {
	if c := j.calls[number]; c != nil {
		return c
	}
	made := j.book.plan.call(number)
	c := &sentCall{items: made.items(), digests: make(map[item]uint64), conversations: make(map[item]string), copied: made.kind == broadcast}
	for _, it := range c.items {
		c.digests[it], c.conversations[it] = digest(made.tail(it)), made.conversation(it)
	}
	for i := range made.messages {
		made.messages[i].sent, made.messages[i].kept = nil, nil
	}
	c.messages = made.messages
	j.calls[number] = c
	return c
}

var errShort = errors.New("it was answered with fewer ids than it has messages")

// of gives what an answer says of one of its messages. The ids of a broadcast's
// copies follow from its own.
func (a *answered) of(it item, copied bool) (id string, sequence uint64, err error) {
	if copied {
		origin, err := uuid.FromString(a.ids[0])
		return messaging.CopyID(origin, messaging.UserID(userName(it.user))).String(), a.sequence, err
	}
	if it.Index >= len(a.ids) {
		return "", 0, errShort
	}
	return a.ids[it.Index], a.sequence + uint64(it.Index), nil //nolint:gosec // not negative
}

// identify notes under which id and sequence a message is known; a second of
// either is a finding. It says whether it is the first.
func (j *judge) identify(it item, id string, sequence uint64) *state {
	s := j.items[it]
	if s == nil {
		s = &state{id: id, sequence: sequence}
		j.items[it] = s
		if owner, ok := j.owners[sequence]; ok && owner != it.Ref {
			j.find(Duplicated, "sequence %d belongs to %s and to %s", sequence, owner, it.Ref)
		}
		j.owners[sequence] = it.Ref
	}
	if s.id != id || s.sequence != sequence {
		j.find(Duplicated, "%s for user %s is known as %s at %d, and as %s at %d", it.Ref, userName(it.user), s.id, s.sequence, id, sequence)
	}
	return s
}

// check looks at a message that somebody got: whether it was sent to them, as
// it is. Where it was not, there is no state.
func (j *judge) check(m *received, user int, where string) (item, *state) {
	it := item{m.ref, user}
	if !j.book.sent(m.ref.Call) {
		j.find(Unknown, "%s: %s, which nobody sent", where, m.ref)
		return it, nil
	}
	c := j.call(m.ref.Call)
	if !slices.Contains(c.items, it) {
		j.find(Unknown, "%s: %s, which was not sent to user %s", where, m.ref, userName(user))
		return it, nil
	}
	if j.book.refused[m.ref.Call] {
		j.find(Unknown, "%s: %s, which was refused", where, m.ref)
	}
	if m.digest != c.digests[it] {
		j.find(Altered, "%s: %s is not as it was sent", where, m.ref)
	}
	return it, j.identify(it, m.id, m.sequence)
}

// missing looks for what is not where it must be: in its queue, unless it was
// taken or acknowledged, and in Django, unless it is a dead letter. What one side
// has, the other must have too, whoever was told.
func (j *judge) missing(django bool) {
	for it, s := range j.items {
		if django && !s.stored && !s.dead && !j.message(it.Ref).known {
			j.find(Lost, "Django does not have %s for user %s (sequence %d)", it.Ref, userName(it.user), s.sequence)
		}
		if s.there || j.loose[it] || s.mayBeGone(j.book.restarted) {
			continue
		}
		if j.excuses[it.user] > 0 {
			j.excuses[it.user]--
			j.verdict.Excused++
			continue
		}
		j.find(Lost, "the queue of user %s does not have %s (sequence %d)", userName(it.user), it.Ref, s.sequence)
	}
	if django {
		j.wholeness()
	}
}

// mayBeGone says whether its queue need not have a message any more.
func (s *state) mayBeGone(restarted bool) bool {
	return s.queue == taken || s.queue == acknowledged || s.queue == anywhere || (s.queue == leased && !restarted)
}

// wholeness looks for calls that are there in part: each is one commit.
func (j *judge) wholeness() {
	for number, c := range j.calls {
		there := 0
		for _, it := range c.items {
			if s := j.items[it]; s != nil {
				there++
			}
		}
		switch {
		case there != 0 && there != len(c.items):
			j.find(Lost, "call %d is there in part: %d of %d", number, there, len(c.items))
		case !j.told(number):
			j.verdict.Open += there
		}
	}
}

func (j *judge) message(r Ref) *message {
	c := j.call(r.Call)
	return &c.messages[min(r.Index, len(c.messages)-1)]
}

func (j *judge) told(number uint64) bool {
	_, ok := j.book.answered[number]
	return ok
}
