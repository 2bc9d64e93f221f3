package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
)

// Kind classifies findings.
type Kind string

// The kinds of findings.
const (
	Lost       Kind = "lost"
	Duplicated Kind = "duplicated"
	Reordered  Kind = "reordered"
	Altered    Kind = "altered"
	// Unknown means that a message was delivered that was not sent, or was refused.
	Unknown Kind = "unknown"
	// Fault means an invalid response.
	Fault Kind = "fault"
)

// Finding is a violation of the service's guarantees.
type Finding struct {
	Kind Kind
	What string
}

// Verdict is the result of a judgement.
type Verdict struct {
	// Answered counts messages for users that must be present. Open counts those that
	// are present although their call was not answered. Excused counts those missing
	// from a queue that an interrupted permanent take may have contained.
	Answered, Open, Excused int
	// Queued, Taken and Acknowledged count the messages that were in the queues at the
	// end, had been taken permanently, and had been acknowledged.
	Queued, Taken, Acknowledged int
	// Stored and Dead count the messages that Django has and the dead letters.
	Stored, Dead int
	// Findings has the first few findings of each kind.
	Findings []Finding

	counts map[Kind]int
}

// shownOfAKind is how many findings per kind are kept.
const shownOfAKind = 4

// Count returns how many findings of a kind there were.
func (v *Verdict) Count(k Kind) int { return v.counts[k] }

// String formats the verdict in a few lines, with the first findings.
func (v *Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d answered, %d present of unknown outcome; queues: %d present, %d taken, %d acknowledged, %d excused; Django: %d stored, %d dead letters; ",
		v.Answered, v.Open, v.Queued, v.Taken, v.Acknowledged, v.Excused, v.Stored, v.Dead)
	for _, k := range []Kind{Lost, Duplicated, Reordered, Altered, Unknown, Fault} {
		fmt.Fprintf(&b, "%d %s ", v.Count(k), k)
	}
	for _, f := range v.Findings {
		fmt.Fprintf(&b, "\n%s: %s", f.Kind, f.What)
	}
	return b.String()
}

// Evidence is the input of a judgement.
type Evidence struct {
	// URL is the service. Its queues are read to their end under leases, and its dead
	// letters are listed.
	URL string
	// Ledger is the file of the load. Sink is the file of the sink; empty without one.
	// The service must have drained everything into it.
	Ledger, Sink string
}

// Judge compares the state of the service with the ledger. It returns an error if it
// cannot; findings are in the verdict.
func Judge(e Evidence) (*Verdict, error) {
	b, err := readLedger(e.Ledger)
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
	j.checkMissing(e.Sink != "")
	return &j.verdict, nil
}

// judge is the state of one judgement.
type judge struct {
	ledger  *parsedLedger
	verdict Verdict
	calls   map[uint64]*sentCall
	// owners maps a sequence to its message.
	owners map[uint64]Ref
	items  map[item]*state
	// deliveredLate holds messages that a service delivered after its power was cut.
	deliveredLate map[item]bool
	// allowedMissing is how many messages of a user interrupted permanent takes may
	// have contained.
	allowedMissing map[int]int
}

// sentCall is what the judge keeps of a call of the plan.
type sentCall struct {
	items         []item
	digests       map[item]uint64
	conversations map[item]string
	messages      []message // without their bodies
	copied        bool      // a broadcast
}

// state is what is known about one message for one user.
type state struct {
	id       string
	sequence uint64
	queue    place
	lastTake *takeRecord // the last take that had it
	there    bool        // in its queue at the end
	stored   bool
	dead     bool
}

// place is where a message is, as far as its reader knows.
type place uint8

const (
	inQueue place = iota // also after its return
	leased
	taken
	acknowledged
	anywhere // unknown: the response was lost
)

func newJudge(b *parsedLedger) *judge {
	j := &judge{
		ledger: b, verdict: Verdict{counts: make(map[Kind]int)}, calls: make(map[uint64]*sentCall), owners: make(map[uint64]Ref),
		items: make(map[item]*state), deliveredLate: make(map[item]bool), allowedMissing: make(map[int]int),
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
	made := j.ledger.plan.call(number)
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

var errShort = errors.New("the response has fewer ids than the call has messages")

// of returns what a response says about one of its messages. The ids of a broadcast's
// copies are derived from its own id.
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

// identify records the id and the sequence of a message. A second id or sequence is a
// finding.
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

// check compares a received message with what was sent to that user. It returns no
// state if the message was not sent to the user.
func (j *judge) check(m *received, user int, where string) (item, *state) {
	it := item{m.ref, user}
	if !j.ledger.sent(m.ref.Call) {
		j.find(Unknown, "%s: %s, which was not sent", where, m.ref)
		return it, nil
	}
	c := j.call(m.ref.Call)
	if !slices.Contains(c.items, it) {
		j.find(Unknown, "%s: %s, which was not sent to user %s", where, m.ref, userName(user))
		return it, nil
	}
	if j.ledger.refused[m.ref.Call] {
		j.find(Unknown, "%s: %s, which was refused", where, m.ref)
	}
	if m.digest != c.digests[it] {
		j.find(Altered, "%s: %s was altered", where, m.ref)
	}
	return it, j.identify(it, m.id, m.sequence)
}

// checkMissing reports messages that are missing: from their queue, unless they were
// taken or acknowledged, and from Django, unless they are dead letters. A message that
// one side has must be on the other side too, whether or not its call was answered.
func (j *judge) checkMissing(django bool) {
	for it, s := range j.items {
		if django && !s.stored && !s.dead && !j.message(it.Ref).known {
			j.find(Lost, "Django does not have %s for user %s (sequence %d)", it.Ref, userName(it.user), s.sequence)
		}
		if s.there || j.deliveredLate[it] || s.mayBeGone(j.ledger.restarted) {
			continue
		}
		if j.allowedMissing[it.user] > 0 {
			j.allowedMissing[it.user]--
			j.verdict.Excused++
			continue
		}
		j.find(Lost, "the queue of user %s does not have %s (sequence %d)", userName(it.user), it.Ref, s.sequence)
	}
	if django {
		j.checkAtomicity()
	}
}

// mayBeGone reports whether a message may be missing from its queue.
func (s *state) mayBeGone(restarted bool) bool {
	return s.queue == taken || s.queue == acknowledged || s.queue == anywhere || (s.queue == leased && !restarted)
}

// checkAtomicity reports calls that are partly present: each call is one commit.
func (j *judge) checkAtomicity() {
	for number, c := range j.calls {
		there := 0
		for _, it := range c.items {
			if s := j.items[it]; s != nil {
				there++
			}
		}
		switch {
		case there != 0 && there != len(c.items):
			j.find(Lost, "call %d is partly present: %d of %d", number, there, len(c.items))
		case !j.wasAnswered(number):
			j.verdict.Open += there
		}
	}
}

func (j *judge) message(r Ref) *message {
	c := j.call(r.Call)
	return &c.messages[min(r.Index, len(c.messages)-1)]
}

func (j *judge) wasAnswered(number uint64) bool {
	_, ok := j.ledger.answered[number]
	return ok
}
