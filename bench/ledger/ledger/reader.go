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
	"github.com/go-json-experiment/json/jsontext"
)

// reader takes from the queues of some users, which no other reader uses: permanently
// from every third, under a lease from the others.
type reader struct {
	load   *Load
	number int
	wire   *wire
	random *rand.Rand
}

const (
	// takeMost is the maximum number of messages of a take. It is small, because the
	// messages of an interrupted take are not judged.
	takeMost = 20
	// leaseTime is longer than a run of the service in any test: a leased message
	// returns after a restart or not at all.
	leaseTime = 600
)

func newReader(l *Load, number int) *reader {
	w, err := newWire(l.config.URL)
	if err != nil {
		l.fail(err)
	}
	return &reader{load: l, number: number, wire: w, random: rand.New(rand.NewPCG(l.config.Plan.Seed, 1<<32+uint64(number)))} //nolint:gosec // chance, not secrecy
}

func (r *reader) run(ctx context.Context) {
	defer func() { r.wire.close() }()
	for user := r.number; !r.load.over(ctx); user += r.load.config.Readers {
		if user >= r.load.config.Plan.Users {
			user = r.number
		}
		if err := r.turn(user); err != nil {
			r.load.fail(err)
			return
		}
	}
}

// turn takes once from one queue. An error is one of the ledger itself.
func (r *reader) turn(user int) error {
	lease := user%3 != 0
	take, messages, err := r.take(user, 1+r.random.IntN(takeMost), lease)
	if err != nil {
		return err
	}
	if len(messages) == 0 {
		pause()
		return nil
	}
	if !lease {
		return nil
	}
	switch n := r.random.IntN(16); n {
	case 0:
		return nil // like a reader that crashes: the messages return after a restart
	case 1:
		return r.end(user, take, messages, "/api/messages/nack", "nacked")
	}
	return r.end(user, take, messages, "/api/messages/ack", "acked")
}

func (r *reader) take(user, count int, lease bool) (take uint64, messages []received, err error) {
	take = r.load.takes.Add(1)
	mode, path := "plain", fmt.Sprintf("/api/messages/queue/%s?max_count=%d", userName(user), count)
	if lease {
		mode, path = "leased", path+"&lease="+strconv.Itoa(leaseTime)
	}
	if r.random.IntN(16) == 0 {
		path += "&wait=1"
	}
	// The epoch is that of the connection on which the response to the take arrives.
	epoch := r.wire.dials
	if r.wire.conn == nil {
		epoch++
	}
	file := r.load.config.File
	if err := file.Sync(lineTaking, utoa(take), strconv.Itoa(r.number), strconv.Itoa(epoch), strconv.Itoa(user), strconv.Itoa(count), mode); err != nil {
		return take, nil, err
	}
	era := r.load.cuts.Load()
	status, responseBody, err := r.wire.do(http.MethodGet, path, "", "", nil)
	r.noteCut(epoch, err)
	switch {
	case errors.Is(err, errUnsent), err == nil && status == http.StatusServiceUnavailable:
		file.Append(lineNothing, utoa(take))
		pause()
	case err == nil && status == http.StatusOK:
		messages = r.took(take, era, responseBody)
	case err == nil:
		r.load.fault("take %d was answered with %d", take, status)
	}
	return take, messages, nil // interrupted: its messages are unknown
}

// noteCut records that a connection broke, possibly with the service.
func (r *reader) noteCut(epoch int, err error) {
	if r.wire.conn == nil && !errors.Is(err, errUnsent) {
		r.load.config.File.Append(lineCut, strconv.Itoa(r.number), strconv.Itoa(epoch), now())
	}
}

// took records the response to a take.
func (r *reader) took(take, era uint64, responseBody []byte) []received {
	messages, err := readAnswer(responseBody)
	if err != nil {
		r.load.fault("take %d: %v", take, err)
		return nil
	}
	words := []string{lineTook, utoa(take), now(), r.load.lateWord(era)}
	for i := range messages {
		words = append(words, messages[i].word())
	}
	r.load.config.File.Append(words...)
	r.load.counters.taken.Add(int64(len(messages)))
	return messages
}

// readAnswer parses the messages of a response.
func readAnswer(responseBody []byte) ([]received, error) {
	var decoded struct {
		Messages []jsontext.Value `json:"messages"`
		Count    int              `json:"count"`
	}
	if err := json.Unmarshal(responseBody, &decoded); err != nil {
		return nil, fmt.Errorf("a response that is not JSON: %w", err)
	}
	if decoded.Count != len(decoded.Messages) {
		return nil, fmt.Errorf("%w: count %d and %d messages", errAnswer, decoded.Count, len(decoded.Messages))
	}
	list := make([]received, len(decoded.Messages))
	for i, raw := range decoded.Messages {
		var err error
		if list[i], err = receive(raw); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// end acknowledges or nacks messages that were taken under a lease.
func (r *reader) end(user int, take uint64, messages []received, path, want string) error {
	file := r.load.config.File
	if err := file.Sync(lineEnding, utoa(take), want); err != nil {
		return err
	}
	body := []byte(`{"user_id":` + quotedUser(user) + `,"receipts":[`)
	for i := range messages {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(append(body, '"'), messages[i].receipt...), '"')
	}
	era, epoch := r.load.cuts.Load(), r.wire.dials
	status, responseBody, err := r.wire.do(http.MethodPost, path, "application/json", "", append(body, "]}"...))
	r.noteCut(epoch, err)
	if err == nil && status == http.StatusOK { // otherwise the outcome is unknown: they are gone or return
		r.ended(take, era, len(messages), responseBody)
	}
	return nil
}

// ended records the outcome of an acknowledgement or a nack.
func (r *reader) ended(take, era uint64, count int, responseBody []byte) {
	var decoded struct {
		Results []struct {
			Result string `json:"result"`
		} `json:"results"`
	}
	if err := json.Unmarshal(responseBody, &decoded); err != nil || len(decoded.Results) != count {
		r.load.fault("take %d: %.500q to %d receipts", take, responseBody, count)
		return
	}
	words := []string{lineEnded, utoa(take), now(), r.load.lateWord(era)}
	for i := range decoded.Results {
		words = append(words, decoded.Results[i].Result)
		if decoded.Results[i].Result == "acked" {
			r.load.counters.acked.Add(1)
		}
	}
	r.load.config.File.Append(words...)
}

// word formats a message for a line of the ledger.
func (r *received) word() string {
	return fmt.Sprintf("%s/%d/%s/%016x", r.ref, r.sequence, r.id, r.digest)
}

// takeGrace is how long before a crash a permanent take may have been made for its
// messages to be delivered again after the crash.
const takeGrace = 2 * time.Second
