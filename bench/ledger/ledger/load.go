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

// Config configures a load.
type Config struct {
	URL string
	// File is the ledger; the load writes to it and does not close it.
	File *File
	Plan Plan
	// Connections is the number of senders, and Readers of connections that take and
	// acknowledge.
	Connections int
	Readers     int
	// MaxMessages ends the sending regardless of the time.
	MaxMessages int64
}

// Load sends and reads until it is stopped. It continues across restarts of the
// service.
type Load struct {
	config   Config
	calls    atomic.Uint64 // the last call number that was assigned
	reserved atomic.Uint64 // the last call number that is durably reserved
	reserve  sync.Mutex
	takes    atomic.Uint64
	// cuts counts starts and ends of power cuts. While it is odd, the power is cut, but
	// the service may still respond.
	cuts     atomic.Uint64
	counters counters
	failed   atomic.Pointer[error]
}

type counters struct{ sent, answered, unknown, refused, taken, acked atomic.Int64 }

// Counts are the numbers of messages by outcome.
type Counts struct{ Sent, Answered, Unknown, Refused, Taken, Acknowledged int64 }

// NewLoad starts the ledger of a run. Its file must be new.
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

// The first words of lines. Times are Unix milliseconds.
const (
	lineHead     = "head"     // version seed users conversations text
	lineReserved = "reserved" // from to: these calls may be sent
	lineAnswered = "answered" // call sequence id…: one id per message of a batch
	lineRefused  = "refused"  // call status
	lineTaking   = "taking"   // take reader epoch user count leased|plain: about to be sent
	lineNothing  = "nothing"  // take: it was not sent, or it was refused
	lineTook     = "took"     // take time now|late message…
	lineEnding   = "ending"   // take acked|nacked: about to be sent
	lineEnded    = "ended"    // take now|late result…: one result per message
	lineCut      = "cut"      // reader epoch time: its connection broke
	lineFault    = "fault"    // text: an invalid response
	lineRestart  = "restart"  // time: the service was restarted
)

const (
	wordNow  = "now"
	wordLate = "late"
)

// Run sends until the context ends or all messages are sent, and reads until the
// context ends. Every worker finishes its current call, so the service must be running
// at that time.
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

// Counts returns the counts so far.
func (l *Load) Counts() Counts {
	c := &l.counters
	return Counts{c.sent.Load(), c.answered.Load(), c.unknown.Load(), c.refused.Load(), c.taken.Load(), c.acked.Load()}
}

// Cut is called immediately before a power cut. Responses from then on do not count as
// answers, until [Load.EndCut] is called after the old service has ended.
func (l *Load) Cut() { l.cuts.Add(1) }

// EndCut ends the period that [Load.Cut] began.
func (l *Load) EndCut() { l.cuts.Add(1) }

// Restarted records that the service was restarted while no reader was active, which
// ended all leases.
func (l *Load) Restarted() { l.config.File.Append(lineRestart, now()) }

// late reports whether a call that began in an era may have been answered after the
// power cut.
func (l *Load) late(era uint64) bool {
	n := l.cuts.Load()
	return n != era || n%2 == 1
}

// lateWord returns now or late.
func (l *Load) lateWord(era uint64) string {
	if l.late(era) {
		return wordLate
	}
	return wordNow
}

// Abort ends the load at once, without finishing the current calls.
func (l *Load) Abort() { l.fail(errAborted) }

var errAborted = errors.New("the load was aborted")

// fail ends the load with an error, such as a failed write of its own file.
func (l *Load) fail(err error) { l.failed.CompareAndSwap(nil, &err) }

// fault records an invalid response.
func (l *Load) fault(format string, args ...any) {
	l.config.File.Append(lineFault, fmt.Sprintf(format, args...))
}

func (l *Load) over(ctx context.Context) bool { return ctx.Err() != nil || l.failed.Load() != nil }

// block is how many call numbers are reserved at once.
const block = 4096

// next returns a call number whose reservation is durable.
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

// pause waits between tries while the service does not respond.
func pause() { time.Sleep(5 * time.Millisecond) }
