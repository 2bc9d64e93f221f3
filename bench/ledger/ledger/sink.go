package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Misbehaviour is how often, out of 100 requests, a sink does what a backend
// should not.
type Misbehaviour struct {
	Fail   int // 500, nothing stored
	Hang   int // nothing stored, and no answer for Wait
	Reset  int // all stored, and the connection reset instead of an answer
	Errors int // 200, with some of the messages in errors, at most twice each
	Slow   int // as it should be, after a part of Wait
	Wait   time.Duration
}

// Flaky is a backend on a bad day.
func Flaky(wait time.Duration) Misbehaviour {
	return Misbehaviour{Fail: 10, Hang: 4, Reset: 10, Errors: 10, Slow: 6, Wait: wait}
}

// Sink is Django's endpoint as the contract has it: it keys on ids, and answers
// when what it stored is durable in its file. Messages that say so are refused for
// good, so that they become dead letters. It listens on loopback.
type Sink struct {
	URL    string
	server *http.Server
	file   *File

	mu       sync.Mutex
	random   *rand.Rand
	bad      Misbehaviour
	muted    bool
	stored   map[string]bool
	refusals map[string]int
	done     chan struct{}
}

// The lines of a sink's file.
const (
	lineStored  = "stored"  // message user
	lineErred   = "erred"   // id: in errors; its order is no longer promised
	lineForGood = "forgood" // id: refused with permanent
	lineForeign = "foreign" // text: nothing that a ledger sent
	lineReplied = "replied" // count: the lines before it are one request's
)

// NewSink starts a sink on a port, 0 for a free one. What its file has is stored
// already.
func NewSink(ctx context.Context, port int, path string, seed uint64, bad Misbehaviour) (*Sink, error) {
	s := &Sink{
		random: rand.New(rand.NewPCG(seed, 1<<33)), bad: bad, //nolint:gosec // chance, not secrecy
		stored: make(map[string]bool), refusals: make(map[string]int), done: make(chan struct{}),
	}
	var err error
	if s.file, err = Create(path); err != nil {
		return nil, err
	}
	if err := readLines(path, s.recall); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	s.URL = "http://" + l.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(l) // until it is closed
	}()
	return s, nil
}

// recall reads a line of an earlier run.
func (s *Sink) recall(words []string) error {
	switch {
	case words[0] == lineStored && len(words) == 3:
		m, err := parseWord(words[1])
		s.stored[m.id] = true
		return err
	case words[0] == lineErred && len(words) == 2:
		s.refusals[words[1]]++
		return nil
	}
	return nil
}

// Behave changes how it misbehaves.
func (s *Sink) Behave(bad Misbehaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = bad
}

// Mute cuts the sink off, or connects it again: while it is muted nothing is
// stored, and what asks is left without an answer. A cut of the power takes the
// network along; without this a service that is already dead would go on storing
// here.
func (s *Sink) Mute(muted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = muted
}

// Close ends the sink and closes its file.
func (s *Sink) Close() error {
	err := s.server.Close()
	<-s.done
	return errors.Join(err, s.file.Close())
}

// deed is what the sink does with a request.
type deed struct {
	fail, hang, reset, errors bool
	sleep                     time.Duration
}

func (s *Sink) draw() deed {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, b := s.random.IntN(100), s.bad
	for _, choice := range []struct {
		share int
		deed  deed
	}{
		{b.Fail, deed{fail: true}},
		{b.Hang, deed{hang: true, sleep: b.Wait}},
		{b.Reset, deed{reset: true}},
		{b.Errors, deed{errors: true}},
		{b.Slow, deed{sleep: b.Wait / 8}},
	} {
		if n -= choice.share; n < 0 {
			return choice.deed
		}
	}
	return deed{}
}

func (s *Sink) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var said struct {
		Messages []jsontext.Value `json:"messages"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	d := s.draw()
	if d.sleep > 0 {
		time.Sleep(d.sleep)
	}
	if d.fail {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if d.hang {
		panic(http.ErrAbortHandler)
	}
	answer, err := s.store(said.Messages, d.errors)
	if err != nil || d.reset {
		panic(http.ErrAbortHandler) // net/http cuts the connection
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // a service that has gone will ask again
}

var errMuted = errors.New("the sink is cut off")

// store stores a batch durably and gives the answer. Lines of one request stand
// together, in its order.
func (s *Sink) store(batch []jsontext.Value, erring bool) ([]byte, error) {
	persisted, duplicates := 0, 0
	var complaints bytes.Buffer
	if err := s.keep(func() error {
		for _, raw := range batch {
			m, err := receive(raw)
			switch {
			case err != nil:
				persisted++
				s.file.Append(lineForeign, err.Error())
			case s.stored[m.id]:
				duplicates++
			case m.poison:
				s.file.Append(lineForGood, m.id)
				complain(&complaints, m.id, "poison", true)
			case erring && s.refusals[m.id] < 2 && s.random.IntN(4) == 0:
				s.refusals[m.id]++
				s.file.Append(lineErred, m.id)
				complain(&complaints, m.id, "database is locked", false)
			default:
				persisted++
				s.stored[m.id] = true
				s.file.Append(lineStored, m.word(), m.user)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"persisted":%d,"duplicates":%d,"errors":[%s]}`, persisted, duplicates, complaints.Bytes()), s.file.Sync(lineReplied, strconv.Itoa(len(batch)))
}

func (s *Sink) keep(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muted {
		return errMuted
	}
	return do()
}

func complain(b *bytes.Buffer, id, text string, permanent bool) {
	if b.Len() > 0 {
		b.WriteByte(',')
	}
	fmt.Fprintf(b, `{"message":{"id":"%s"},"error":"%s","permanent":%t}`, id, text, permanent)
}
