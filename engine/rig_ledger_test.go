package engine_test

import (
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// ledger is what the clients of a service know: what they asked for, what they
// were answered, and so what must be there after a crash, what may be, and what
// must not. Whoever asks for something that removes a message says so before,
// and what came of it after.
//
// A crash freezes it: what clients do from then on has not happened.
type ledger struct {
	mu       sync.Mutex
	frozen   bool
	frozenAt time.Time
	clock    int // counts up when a message goes

	messages map[address]*sent
	large    map[string]*largeSent // by text
	keys     map[int]*keyed
	// settled are the messages that were taken for good, in the order in which
	// that was said. The first durable of them are known to be off the disk.
	settled []*sent
	durable int
	// clearing counts the clears of a user's queue that are under way.
	clearing map[messaging.UserID]int

	// The drain's: what it gave to the backend, how far it came, and the last
	// position and watermark that it was told are durable.
	persisted map[uint64]messaging.MessageID
	position  messaging.Position
	saved     messaging.Position
	mark      storage.Watermark
}

// address finds a message: no text is sent twice to one user.
type address struct {
	user messaging.UserID
	text string
}

// sent is one user's message.
type sent struct {
	address
	priority messaging.Priority
	sequence uint64 // 0 until it is known
	expires  time.Time
	group    *group // what it was sent with, or nil
	// acknowledged says that its sender was answered, or that it was found in the
	// log after a crash: it is there for good.
	acknowledged bool
	// removing counts the calls under way that may remove it; unsure says that
	// one may have done so, gone, by the ledger's clock, when one surely had.
	removing int
	unsure   bool
	gone     int
	removals int // how many calls began that may remove it
	redrives int // and how many that may bring it back
	// deliveries is how often it was handed out under a lease at the least, and
	// due until when it is due later.
	deliveries uint32
	due        time.Time
}

// group is messages that were sent in one batch: all of them or none.
type group struct {
	size  int
	found int // the judge's
}

// largeSent is a broadcast that is too large for one commit.
type largeSent struct {
	recipients   int
	sequence     uint64
	acknowledged bool
}

// keyed is what is sent with an idempotency key.
type keyed struct {
	answered bool
	receipt  messaging.Receipt
}

func newLedger() *ledger {
	return &ledger{
		messages: make(map[address]*sent), large: make(map[string]*largeSent), keys: make(map[int]*keyed),
		clearing: make(map[messaging.UserID]int), persisted: make(map[uint64]messaging.MessageID),
		position: messaging.Position{Sequence: 1},
	}
}

// note changes the ledger; false says that the power is off and that nothing
// happens any more.
func (l *ledger) note(change func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		return false
	}
	change()
	return true
}

// crash freezes the ledger, and takes what the disk holds at that moment.
func (l *ledger) crash(take func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen, l.frozenAt = true, time.Now()
	take()
}

// copied gives a ledger of the same messages, frozen as this one is.
func (l *ledger) copied() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{
		frozen: true, frozenAt: l.frozenAt, clock: l.clock, messages: l.messages, large: l.large, keys: l.keys, settled: l.settled,
		durable: l.durable, clearing: l.clearing, persisted: l.persisted, position: l.position, saved: l.saved, mark: l.mark,
	}
}

// forgetSettled forgets in which order messages were taken: what came after them
// does not say any more, after a crash, that their leaving was durable.
func (l *ledger) forgetSettled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled, l.durable = nil, 0
	clear(l.clearing)
}

// thaw lets a new boot begin. It gives the time of the crash before.
func (l *ledger) thaw() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = false
	return l.frozenAt
}

// now reads the ledger's clock.
func (l *ledger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock
}

// begin notes messages that are about to be sent. It gives how many takes were
// settled so far: they are durable when what is sent now is.
func (l *ledger) begin(messages ...*sent) (takes int, ok bool) {
	ok = l.note(func() {
		takes = len(l.settled)
		for _, m := range messages {
			if l.messages[m.address] != nil {
				continue // a repetition
			}
			l.messages[m.address] = m
			if l.clearing[m.user] > 0 {
				m.unsure = true
				m.removals++
			}
		}
	})
	return takes, ok
}

// committed notes that a call was answered that is durable with everything that
// came before it began.
func (l *ledger) committed(takes int) {
	for ; l.durable < takes; l.durable++ {
		if m := l.settled[l.durable]; m.redrives == 0 {
			l.went(m)
		}
	}
}

// went notes that a message is gone for good.
func (l *ledger) went(m *sent) {
	if m.gone == 0 {
		l.clock++
		m.gone = l.clock
	}
}

// had says whether a message had gone before a call began.
func (m *sent) had(began int) bool { return m.gone != 0 && m.gone <= began }

// answered notes that messages are durable, from a sequence on: one behind the
// other, or, in a broadcast, all the same.
func (l *ledger) answered(takes int, receipt messaging.Receipt, messages []*sent) {
	l.note(func() {
		l.committed(takes)
		for i, m := range messages {
			m = l.messages[m.address] // the first one of its twins
			m.acknowledged, m.sequence = true, receipt.Sequence
			if receipt.Count > 1 {
				m.sequence += uint64(i)
			}
		}
	})
}

// of gives all messages of a user.
func (l *ledger) of(user messaging.UserID) (list []*sent) {
	for _, m := range l.messages {
		if m.user == user {
			list = append(list, m)
		}
	}
	return list
}

// doubt notes that something begins that may remove a message, and whose
// outcome the client does not get to know.
func (m *sent) doubt() {
	m.unsure = true
	m.removals++
}

// removal is a call under way that may remove messages.
type removal struct {
	messages []*sent
	certain  []bool // it was there for sure, and nobody brings it back
	takes    int
	began    int
}

// remove begins a removal. It must be ended, if the power stays on.
func (l *ledger) remove(messages []*sent) (r removal) {
	r = removal{messages: messages, takes: len(l.settled), began: l.clock}
	for _, m := range messages {
		m.removing++
		m.removals++
		r.certain = append(r.certain, m.acknowledged && m.redrives == 0)
	}
	return r
}

// end ends a removal that is durable; done says of each message whether it is
// gone.
func (l *ledger) end(r removal, done func(i int) bool) {
	l.committed(r.takes)
	for i, m := range r.messages {
		m.removing--
		switch {
		case !done(i):
		case r.certain[i] && m.redrives == 0:
			l.went(m)
		default:
			m.unsure = true
		}
	}
}
