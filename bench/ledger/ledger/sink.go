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

// Misbehaviour is how often, per 100 requests, a sink fails.
type Misbehaviour struct {
	Fail   int // 500, nothing stored
	Hang   int // nothing stored, and no response for Wait
	Reset  int // all stored, and a connection reset instead of a response
	Errors int // 200, with errors for some of the messages, at most twice each
	Slow   int // a correct response after a part of Wait
	Wait   time.Duration
}

// Flaky is a backend with frequent failures.
func Flaky(wait time.Duration) Misbehaviour {
	return Misbehaviour{Fail: 10, Hang: 4, Reset: 10, Errors: 10, Slow: 6, Wait: wait}
}

// Sink is Django's endpoint as the contract defines it: it keys on ids and responds
// when the stored messages are durable in its file. It permanently refuses messages
// that ask for it, so that they become dead letters. It listens on loopback.
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
	lineErred   = "erred"   // id: had an error; its order is no longer guaranteed
	lineForGood = "forgood" // id: refused with permanent
	lineForeign = "foreign" // text: not sent by a ledger
	lineReplied = "replied" // count: the lines before it are those of one request
)

// NewSink starts a sink on a port; 0 selects a free one. The content of its file counts
// as stored.
func NewSink(ctx context.Context, port int, path string, seed uint64, bad Misbehaviour) (*Sink, error) {
	s := &Sink{
		random: rand.New(rand.NewPCG(seed, 1<<33)), bad: bad, //nolint:gosec // chance, not secrecy
		stored: make(map[string]bool), refusals: make(map[string]int), done: make(chan struct{}),
	}
	var err error
	if s.file, err = Create(path); err != nil {
		return nil, err
	}
	if err := readLines(path, s.replayLine); err != nil {
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

// replayLine processes a line of an earlier run.
func (s *Sink) replayLine(words []string) error {
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

// SetMisbehaviour changes how the sink fails.
func (s *Sink) SetMisbehaviour(bad Misbehaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = bad
}

// Mute disconnects the sink or connects it again. While it is muted, it stores nothing
// and does not respond. A power cut also cuts the network; without Mute a service that
// has already lost its power would continue to store messages here.
func (s *Sink) Mute(muted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = muted
}

// Close stops the sink and closes its file.
func (s *Sink) Close() error {
	err := s.server.Close()
	<-s.done
	return errors.Join(err, s.file.Close())
}

// behaviour is what the sink does with a request.
type behaviour struct {
	fail, hang, reset, errors bool
	sleep                     time.Duration
}

func (s *Sink) drawBehaviour() behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, b := s.random.IntN(100), s.bad
	for _, choice := range []struct {
		share int
		deed  behaviour
	}{
		{b.Fail, behaviour{fail: true}},
		{b.Hang, behaviour{hang: true, sleep: b.Wait}},
		{b.Reset, behaviour{reset: true}},
		{b.Errors, behaviour{errors: true}},
		{b.Slow, behaviour{sleep: b.Wait / 8}},
	} {
		if n -= choice.share; n < 0 {
			return choice.deed
		}
	}
	return behaviour{}
}

func (s *Sink) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var decoded struct {
		Messages []jsontext.Value `json:"messages"`
	}
	if err := json.Unmarshal(body, &decoded); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	d := s.drawBehaviour()
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
	responseBody, err := s.store(decoded.Messages, d.errors)
	if err != nil || d.reset {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(responseBody) // the service retries if it does not get the response
}

var errMuted = errors.New("the sink is muted")

// store stores a batch durably and returns the response. The lines of one request are
// consecutive and in its order.
func (s *Sink) store(batch []jsontext.Value, withErrors bool) ([]byte, error) {
	persisted, duplicates := 0, 0
	var errorList bytes.Buffer
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
				appendError(&errorList, m.id, "poison", true)
			case withErrors && s.refusals[m.id] < 2 && s.random.IntN(4) == 0:
				s.refusals[m.id]++
				s.file.Append(lineErred, m.id)
				appendError(&errorList, m.id, "database is locked", false)
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
	return fmt.Appendf(nil, `{"persisted":%d,"duplicates":%d,"errors":[%s]}`, persisted, duplicates, errorList.Bytes()),
		s.file.Sync(lineReplied, strconv.Itoa(len(batch)))
}

func (s *Sink) keep(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muted {
		return errMuted
	}
	return do()
}

func appendError(b *bytes.Buffer, id, text string, permanent bool) {
	if b.Len() > 0 {
		b.WriteByte(',')
	}
	fmt.Fprintf(b, `{"message":{"id":"%s"},"error":"%s","permanent":%t}`, id, text, permanent)
}
