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

// reader takes from the queues of some users, which nobody else reads: from
// every third for good, from the others under a lease.
type reader struct {
	load   *Load
	number int
	wire   *wire
	random *rand.Rand
}

const (
	// takeMost is how much one take asks for at most. It is small: what a take
	// that was cut off may have had is not judged.
	takeMost = 20
	// leaseTime is longer than a run of the service in any rig: what is leased
	// comes back by a restart or not at all.
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

// turn takes once from one queue. An error is the ledger's own.
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
		return nil // as a reader that crashes: they come back with a restart
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
	// The epoch is that of the connection on which the take will be answered.
	epoch := r.wire.dials
	if r.wire.conn == nil {
		epoch++
	}
	file := r.load.config.File
	if err := file.Sync(lineTaking, utoa(take), strconv.Itoa(r.number), strconv.Itoa(epoch), strconv.Itoa(user), strconv.Itoa(count), mode); err != nil {
		return take, nil, err
	}
	era := r.load.cuts.Load()
	status, answer, err := r.wire.do(http.MethodGet, path, "", "", nil)
	r.noteCut(epoch, err)
	switch {
	case errors.Is(err, errUnsent), err == nil && status == http.StatusServiceUnavailable:
		file.Append(lineNothing, utoa(take))
		pause()
	case err == nil && status == http.StatusOK:
		messages = r.took(take, era, answer)
	case err == nil:
		r.load.fault("take %d was answered with %d", take, status)
	}
	return take, messages, nil // cut off, nobody knows what it had
}

// noteCut notes that a connection is gone, and with it perhaps the service.
func (r *reader) noteCut(epoch int, err error) {
	if r.wire.conn == nil && !errors.Is(err, errUnsent) {
		r.load.config.File.Append(lineCut, strconv.Itoa(r.number), strconv.Itoa(epoch), now())
	}
}

// took notes what a take was answered.
func (r *reader) took(take, era uint64, answer []byte) []received {
	messages, err := readAnswer(answer)
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

// readAnswer reads the messages of an answer.
func readAnswer(answer []byte) ([]received, error) {
	var said struct {
		Messages []jsontext.Value `json:"messages"`
		Count    int              `json:"count"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return nil, fmt.Errorf("an answer that is not JSON: %w", err)
	}
	if said.Count != len(said.Messages) {
		return nil, fmt.Errorf("%w: count %d and %d messages", errAnswer, said.Count, len(said.Messages))
	}
	list := make([]received, len(said.Messages))
	for i, raw := range said.Messages {
		var err error
		if list[i], err = receive(raw); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// end acknowledges what was taken under a lease, or gives it back.
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
	status, answer, err := r.wire.do(http.MethodPost, path, "application/json", "", append(body, "]}"...))
	r.noteCut(epoch, err)
	if err == nil && status == http.StatusOK { // else nobody knows: they are gone, or they come back
		r.ended(take, era, len(messages), answer)
	}
	return nil
}

// ended notes what became of what was acknowledged or given back.
func (r *reader) ended(take, era uint64, count int, answer []byte) {
	var said struct {
		Results []struct {
			Result string `json:"result"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer, &said); err != nil || len(said.Results) != count {
		r.load.fault("take %d: %.500q to %d receipts", take, answer, count)
		return
	}
	words := []string{lineEnded, utoa(take), now(), r.load.lateWord(era)}
	for i := range said.Results {
		words = append(words, said.Results[i].Result)
		if said.Results[i].Result == "acked" {
			r.load.counters.acked.Add(1)
		}
	}
	r.load.config.File.Append(words...)
}

// word is a message in a line of the ledger.
func (r *received) word() string {
	return fmt.Sprintf("%s/%d/%s/%016x", r.ref, r.sequence, r.id, r.digest)
}

// graceOfTakes is how soon before a crash a message must have been taken for
// good that it may come again after it.
const graceOfTakes = 2 * time.Second
