package engine_test

import (
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// ledger is what the clients of a service know: what they requested and what was
// acknowledged. From it follows what must be there after a crash, what may be, and what
// must not be. A call that removes a message is recorded before it begins and after it
// ends.
//
// A crash freezes the ledger: what clients do afterwards has not happened.
type ledger struct {
	mu     sync.Mutex
	frozen bool
	clock  int // increments when a message is removed

	messages map[address]*sent
	large    map[string]*largeSent // by text
	keys     map[int]*keyed
	// taken has the messages taken without a lease, in the order of Finish. The removal
	// of the first durable of them is known to be on disk.
	taken   []*sent
	durable int
	// clearing counts the running clears of a user's queue.
	clearing map[messaging.UserID]int

	// Owned by the drain: what it sent to the backend, its position, and the last position
	// and watermark known to be durable.
	persisted map[uint64]messaging.MessageID
	position  messaging.Position
	saved     messaging.Position
	mark      storage.Watermark
	// trimmed has the tombstones that the previous start found.
	trimmed map[uint64]bool
}

// address identifies a message: no text is sent twice to one user.
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
	// acknowledged is set when the sender got a response, or when the message was found in
	// the log after a crash. It is durable then.
	acknowledged bool
	// removing counts the running calls that may remove it. unsure is set when one may
	// have removed it, and gone is when one certainly did, by the ledger's clock.
	removing int
	unsure   bool
	gone     int
	removals int  // number of calls so far that may remove it
	redrives int  // number of calls so far that may requeue it
	trimmed  bool // the previous start found its record trimmed
	// deliveries is the least number of leased deliveries, and due is until when it is
	// delayed.
	deliveries uint32
	due        time.Time
}

// group is the messages of one batch: all of them are durable or none.
type group struct {
	size  int
	found int // set by judge
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
	receipt  messaging.SendResult
}

func newLedger() *ledger {
	return &ledger{
		messages: make(map[address]*sent), large: make(map[string]*largeSent), keys: make(map[int]*keyed),
		clearing: make(map[messaging.UserID]int), persisted: make(map[uint64]messaging.MessageID),
		position: messaging.Position{Sequence: 1},
	}
}

// note changes the ledger. It returns false if the power is off and nothing happens any
// more.
func (l *ledger) note(change func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		return false
	}
	change()
	return true
}

// crash freezes the ledger, and calls take to copy the disk at that moment.
func (l *ledger) crash(take func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
	take()
}

// copied returns a frozen ledger with the same messages.
func (l *ledger) copied() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{
		frozen: true, clock: l.clock, messages: l.messages, large: l.large, keys: l.keys, taken: l.taken,
		durable: l.durable, clearing: l.clearing, persisted: l.persisted, position: l.position, saved: l.saved, mark: l.mark, trimmed: l.trimmed,
	}
}

// forgetTaken forgets the order in which messages were taken. After a crash, a later
// commit no longer proves that their removal was durable.
func (l *ledger) forgetTaken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken, l.durable = nil, 0
	clear(l.clearing)
}

// thaw unfreezes the ledger for a new boot.
func (l *ledger) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = false
}

// now returns the ledger's clock.
func (l *ledger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock
}

// begin records messages that are about to be sent. takes is how many takes are finished
// so far: their removals are durable when these messages are.
func (l *ledger) begin(messages ...*sent) (takes int, ok bool) {
	ok = l.note(func() {
		takes = len(l.taken)
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

// forgotten records messages of an earlier call. The state of those that the ledger no
// longer has is unknown.
func (l *ledger) forgotten(messages []*sent) {
	for _, m := range messages {
		if l.messages[m.address] == m {
			m.unsure = true
		}
	}
}

// committed records that a call has returned. Its commit is durable, and so is everything
// before its begin.
func (l *ledger) committed(takes int) {
	for ; l.durable < takes; l.durable++ {
		if m := l.taken[l.durable]; m.redrives == 0 {
			l.went(m)
		}
	}
}

// went records that a message is removed durably.
func (l *ledger) went(m *sent) {
	if m.gone == 0 {
		l.clock++
		m.gone = l.clock
	}
}

// had reports whether a message was removed before a call began.
func (m *sent) had(began int) bool { return m.gone != 0 && m.gone <= began }

// answered records that messages are durable, with consecutive sequences or, in a
// broadcast, the same one.
func (l *ledger) answered(takes int, receipt messaging.SendResult, messages []*sent) {
	l.note(func() {
		l.committed(takes)
		for i, m := range messages {
			m = l.messages[m.address] // the first one with this address
			m.acknowledged, m.sequence = true, receipt.Sequence
			if receipt.Count > 1 {
				m.sequence += uint64(i)
			}
		}
	})
}

// of returns all messages of a user.
func (l *ledger) of(user messaging.UserID) (list []*sent) {
	for _, m := range l.messages {
		if m.user == user {
			list = append(list, m)
		}
	}
	return list
}

// doubt records the begin of a call that may remove a message and whose outcome the client
// does not learn.
func (m *sent) doubt() {
	m.unsure = true
	m.removals++
}

// removal is a running call that may remove messages.
type removal struct {
	messages []*sent
	certain  []bool // the message is certainly there, and no call requeues it
	takes    int
	began    int
}

// remove begins a removal. If the power stays on, the caller ends it.
func (l *ledger) remove(messages []*sent) (r removal) {
	r = removal{messages: messages, takes: len(l.taken), began: l.clock}
	for _, m := range messages {
		m.removing++
		m.removals++
		r.certain = append(r.certain, m.acknowledged && m.redrives == 0)
	}
	return r
}

// end ends a durable removal; done reports of each message whether it is removed.
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
