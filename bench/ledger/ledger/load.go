package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a load does.
type Config struct {
	URL string
	// File is the ledger; it gets the load's lines and stays open.
	File *File
	Plan Plan
	// Connections send, Readers take and acknowledge.
	Connections int
	Readers     int
	// MaxMessages ends the sending, whatever the time.
	MaxMessages int64
}

// Load sends and reads until it is told to end. It goes on through restarts of
// the service.
type Load struct {
	config   Config
	calls    atomic.Uint64 // numbers of calls given out
	reserved atomic.Uint64 // numbers that are durably reserved
	reserve  sync.Mutex
	takes    atomic.Uint64
	// cuts counts cuts of the power and mends of it: while it is odd, what is
	// answered is answered by a service that does not know yet that it is dead.
	cuts     atomic.Uint64
	counters counters
	failed   atomic.Pointer[error]
}

type counters struct{ sent, answered, unknown, refused, taken, acked atomic.Int64 }

// Counts is what a load has done, in messages.
type Counts struct{ Sent, Answered, Unknown, Refused, Taken, Acknowledged int64 }

// NewLoad begins the ledger of a run. Its file must be new.
func NewLoad(c Config) (*Load, error) {
	if _, err := newWire(c.URL); err != nil {
		return nil, err
	}
	if !c.Plan.valid() || c.Connections < 1 || c.Readers < 0 || c.MaxMessages < 1 {
		return nil, fmt.Errorf("%w: %+v", errConfig, c)
	}
	p := c.Plan
	return &Load{config: c}, c.File.Sync(lineHead, "1", utoa(p.Seed), strconv.Itoa(p.Users), strconv.Itoa(p.Conversations), strconv.Itoa(p.Text))
}

var errConfig = errors.New("a load needs users, conversations, texts of 1 to 32000 characters, connections and a bound of messages")

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

func now() string { return strconv.FormatInt(time.Now().UnixMilli(), 10) }

// The words that lines begin with. Times are Unix milliseconds.
const (
	lineHead     = "head"     // version seed users conversations text
	lineReserved = "reserved" // from to: these calls may be sent
	lineAnswered = "answered" // call sequence id…: one for each message of a batch
	lineRefused  = "refused"  // call status
	lineTaking   = "taking"   // take reader epoch user count leased|plain: about to be sent
	lineNothing  = "nothing"  // take: it was not sent, or it was refused
	lineTook     = "took"     // take time now|late message…
	lineEnding   = "ending"   // take acked|nacked: about to be sent
	lineEnded    = "ended"    // take now|late result…: one for each message
	lineCut      = "cut"      // reader epoch time: its connection broke
	lineFault    = "fault"    // text: an answer that was wrong in itself
	lineRestart  = "restart"  // time: the service was restarted
)

const (
	wordNow  = "now"
	wordLate = "late"
)

// Run sends until the context ends or the messages are all sent, and reads until
// the context ends. Every worker ends what it has begun, so the service must be
// there by then.
func (l *Load) Run(ctx context.Context) error {
	var senders, readers sync.WaitGroup
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for n := range l.config.Connections {
		senders.Go(func() { newSender(l, n).run(ctx) })
	}
	for n := range l.config.Readers {
		readers.Go(func() { newReader(l, n).run(reading) })
	}
	senders.Wait()
	<-ctx.Done()
	stop()
	readers.Wait()
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Counts gives what was done so far.
func (l *Load) Counts() Counts {
	c := &l.counters
	return Counts{c.sent.Load(), c.answered.Load(), c.unknown.Load(), c.refused.Load(), c.taken.Load(), c.acked.Load()}
}

// Cut is called right before the power is cut: what is answered from here on
// counts as answered by nobody, until [Load.Mend] is called, when the service
// that was cut off has ended.
func (l *Load) Cut() { l.cuts.Add(1) }

// Mend ends what [Load.Cut] began.
func (l *Load) Mend() { l.cuts.Add(1) }

// Restarted notes that the service was restarted while nobody read: whatever was
// leased is free again.
func (l *Load) Restarted() { l.config.File.Append(lineRestart, now()) }

// late says whether what was begun in an era cannot be told from what was
// answered after the power was cut.
func (l *Load) late(era uint64) bool {
	n := l.cuts.Load()
	return n != era || n%2 == 1
}

// lateWord is now or late.
func (l *Load) lateWord(era uint64) string {
	if l.late(era) {
		return wordLate
	}
	return wordNow
}

// Abort ends the load at once, and makes no attempt at what it has begun.
func (l *Load) Abort() { l.fail(errAborted) }

var errAborted = errors.New("the load was aborted")

// fail ends the load: its own file cannot be written.
func (l *Load) fail(err error) { l.failed.CompareAndSwap(nil, &err) }

// fault notes an answer that was wrong in itself.
func (l *Load) fault(format string, args ...any) {
	l.config.File.Append(lineFault, fmt.Sprintf(format, args...))
}

func (l *Load) over(ctx context.Context) bool { return ctx.Err() != nil || l.failed.Load() != nil }

// block is how many numbers of calls are reserved at once.
const block = 4096

// next gives the number of a call that may be sent: its reservation is durable.
func (l *Load) next() (uint64, error) {
	n := l.calls.Add(1)
	for n > l.reserved.Load() {
		if err := l.reserveMore(n); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (l *Load) reserveMore(n uint64) error {
	l.reserve.Lock()
	defer l.reserve.Unlock()
	from := l.reserved.Load()
	if n <= from {
		return nil
	}
	if err := l.config.File.Sync(lineReserved, utoa(from+1), utoa(from+block)); err != nil {
		return err
	}
	l.reserved.Store(from + block)
	return nil
}

// pause waits between tries at a service that is not there.
func pause() { time.Sleep(5 * time.Millisecond) }
