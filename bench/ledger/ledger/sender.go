package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// sender makes one call of the plan after another on one connection.
type sender struct {
	load   *Load
	wire   *wire
	random *rand.Rand
	// kept are answered calls with a key; some are repeated.
	kept []keptCall
}

type keptCall struct {
	number uint64
	answer answered
}

// answered is the content of a response of success.
type answered struct {
	sequence  uint64
	ids       []string
	duplicate bool
}

const (
	keptCalls = 32
	// lastTries is how long a call is retried after the load has ended.
	lastTries = 30 * time.Second
)

func newSender(l *Load, number int) *sender {
	w, err := newWire(l.config.URL)
	if err != nil {
		l.fail(err)
	}
	return &sender{load: l, wire: w, random: rand.New(rand.NewPCG(l.config.Plan.Seed, uint64(number)))} //nolint:gosec // chance, not secrecy
}

func (s *sender) run(ctx context.Context) {
	defer func() { s.wire.close() }()
	for !s.load.over(ctx) && s.load.counters.sent.Load() < s.load.config.MaxMessages {
		number, err := s.load.next()
		if err != nil {
			s.load.fail(err)
			return
		}
		c := s.load.config.Plan.call(number)
		s.load.counters.sent.Add(int64(len(c.items())))
		s.make(ctx, &c)
		if len(s.kept) > 0 && s.random.IntN(16) == 0 {
			s.repeat(s.kept[s.random.IntN(len(s.kept))])
		}
	}
}

// callOutcome is the outcome of one try of a call.
type callOutcome uint8

const (
	accepted callOutcome = iota
	refused              // nothing was stored, and a retry would be refused too
	busy                 // nothing was stored; a retry may succeed
	unsent               // the request did not leave
	unknown              // it may have been stored
)

// outcomeOf classifies a response. It records an invalid response as a fault.
func (s *sender) outcomeOf(c *call, status int, err error) callOutcome {
	switch {
	case errors.Is(err, errUnsent):
		return unsent
	case errors.Is(err, errAnswer):
		s.load.fault("call %d: %v", c.number, err)
		return unknown
	case err != nil:
		return unknown
	case status == http.StatusOK:
		return accepted
	case status == http.StatusServiceUnavailable, status == http.StatusInsufficientStorage, status == http.StatusTooManyRequests:
		return busy
	case status >= http.StatusInternalServerError:
		s.load.fault("call %d was answered with %d", c.number, status)
		return unknown
	}
	s.load.fault("call %d was refused with %d", c.number, status)
	return refused
}

// make makes a call until its outcome is known or cannot be known: without a key, an
// interrupted call is not sent again.
func (s *sender) make(ctx context.Context, c *call) {
	for deadline := (time.Time{}); ; pause() {
		era := s.load.cuts.Load()
		responseBody, status, err := s.send(c)
		switch outcome := s.outcomeOf(c, status, err); {
		case outcome == accepted:
			s.answered(c, responseBody, era)
			return
		case outcome == refused, outcome == busy && !c.keyed:
			s.refused(c, status)
			return
		case outcome == unknown && !c.keyed:
			s.unknown(c)
			return
		}
		if ctx.Err() != nil && deadline.IsZero() {
			deadline = time.Now().Add(lastTries)
		}
		if s.load.failed.Load() != nil || (!deadline.IsZero() && time.Now().After(deadline)) {
			s.unknown(c)
			return
		}
	}
}

func (s *sender) unknown(c *call) { s.load.counters.unknown.Add(int64(len(c.items()))) }

func (s *sender) refused(c *call, status int) {
	s.load.counters.refused.Add(int64(len(c.items())))
	s.load.config.File.Append(lineRefused, utoa(c.number), strconv.Itoa(status))
	pause()
}

func (s *sender) answered(c *call, a answered, era uint64) {
	if s.load.late(era) {
		s.unknown(c)
		return
	}
	s.load.counters.answered.Add(int64(len(c.items())))
	s.load.config.File.Append(append([]string{lineAnswered, utoa(c.number), utoa(a.sequence)}, a.ids...)...)
	if !c.keyed {
		return
	}
	k := keptCall{c.number, a}
	if len(s.kept) < keptCalls {
		s.kept = append(s.kept, k)
		return
	}
	s.kept[s.random.IntN(keptCalls)] = k
}

// repeat makes an answered call again; the response must be the same.
func (s *sender) repeat(k keptCall) {
	c := s.load.config.Plan.call(k.number)
	responseBody, status, err := s.send(&c)
	if err != nil || status != http.StatusOK {
		return
	}
	if responseBody.sequence != k.answer.sequence || fmt.Sprint(responseBody.ids) != fmt.Sprint(k.answer.ids) || !responseBody.duplicate {
		s.load.fault("call %d was answered with sequence %d, and its repetition with %d (duplicate: %t)",
			k.number, k.answer.sequence, responseBody.sequence, responseBody.duplicate)
	}
}

// receipt is the part of a response about one message.
type receipt struct {
	ID       string `json:"id"`
	Sequence uint64 `json:"sequence"`
}

// send sends a call and reads its response. A response of success that cannot be parsed
// is an error.
func (s *sender) send(c *call) (a answered, status int, err error) {
	path, media, body := c.request()
	status, text, err := s.wire.do(http.MethodPost, path, media, c.key(), body)
	if err != nil || status != http.StatusOK {
		return a, status, err
	}
	var decoded struct {
		ID        string    `json:"id"`
		Sequence  uint64    `json:"sequence"`
		Duplicate bool      `json:"duplicate"`
		Messages  []receipt `json:"messages"`
	}
	if err := json.Unmarshal(text, &decoded); err != nil {
		return a, status, fmt.Errorf("%w: %.500q", errAnswer, text)
	}
	if c.kind != batch {
		decoded.Messages = append(decoded.Messages, receipt{decoded.ID, decoded.Sequence})
	}
	a.duplicate = decoded.Duplicate
	for i, m := range decoded.Messages {
		a.ids = append(a.ids, m.ID)
		a.sequence = decoded.Messages[0].Sequence
		if m.ID == "" || m.Sequence == 0 || m.Sequence != a.sequence+uint64(i) {
			return a, status, fmt.Errorf("%w: message %d of %.500q", errAnswer, i, text)
		}
	}
	if len(decoded.Messages) != len(c.messages) {
		return a, status, fmt.Errorf("%w: the response is for %d messages, %d were sent", errAnswer, len(decoded.Messages), len(c.messages))
	}
	return a, status, nil
}

var errAnswer = errors.New("a response that the contract does not define")
