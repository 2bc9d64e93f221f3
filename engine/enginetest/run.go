package enginetest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging"
)

// run is one case under way.
type run struct {
	*testing.T

	rig Rig
}

func (r *run) engine() Engine { return r.rig.Engine() }

// fatal is what a test fails with: a test's, or the model's.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// message is a message to send; fields is more of its JSON.
func message(tb fatal, user, text string, p messaging.Priority, fields string) messaging.Draft {
	tb.Helper()
	d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":%q,"priority":%q%s}`, user, text, p, fields))
	if err != nil {
		tb.Fatalf("parse a message: %v", err)
	}
	return d
}

func (r *run) send(user, text string, p messaging.Priority, fields ...string) messaging.Receipt {
	r.Helper()
	if len(fields) > 0 {
		fields = append([]string{""}, fields...) // a comma before the first, too
	}
	receipt, err := r.engine().Send(message(r, user, text, p, strings.Join(fields, ",")), messaging.Once{})
	if err != nil {
		r.Fatalf("send %s: %v", text, err)
	}
	return receipt
}

func broadcastOf(r *run, text, fields string, users ...string) messaging.Broadcast {
	r.Helper()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q%s},"user_ids":["%s"]}`, text, fields, strings.Join(users, `","`)))
	if err != nil {
		r.Fatalf("parse a broadcast: %v", err)
	}
	return b
}

func (r *run) broadcast(text, fields string, users ...string) messaging.Receipt {
	r.Helper()
	receipt, err := r.engine().Broadcast(broadcastOf(r, text, fields, users...), messaging.Once{})
	if err != nil {
		r.Fatalf("broadcast: %v", err)
	}
	return receipt
}

// take takes messages under a lease (0 is for good) and gives them.
func (r *run) take(user string, limit int, lease time.Duration) []messaging.Message {
	r.Helper()
	h, err := r.engine().Take(r.Context(), messaging.UserID(user), messaging.TakeOptions{Limit: limit, Lease: lease})
	if err != nil {
		r.Fatalf("take: %v", err)
	}
	h.Settle(true)
	return h.Messages
}

func (r *run) wantTake(user string, limit int, lease time.Duration, want ...string) []messaging.Message {
	r.Helper()
	got := r.take(user, limit, lease)
	r.wantTexts("taken", got, want...)
	return got
}

func (r *run) wantPeek(user string, want ...string) {
	r.Helper()
	got, err := r.engine().Peek(messaging.UserID(user), 1000)
	if err != nil {
		r.Fatalf("peek: %v", err)
	}
	r.wantTexts("in the queue", got, want...)
}

func (r *run) wantTexts(what string, messages []messaging.Message, want ...string) {
	r.Helper()
	if got := texts(messages); fmt.Sprint(got) != fmt.Sprint(want) {
		r.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func (r *run) wantSize(user string, want messaging.Counts) {
	r.Helper()
	got, err := r.engine().Size(messaging.UserID(user))
	if err != nil || got != want {
		r.Fatalf("size %+v (%v), want %+v", got, err, want)
	}
}

// wantOutcomes compares what a call on receipts answered.
func (r *run) wantOutcomes(got []messaging.Outcome, err error, want ...messaging.Outcome) {
	r.Helper()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		r.Fatalf("outcomes %v (%v), want %v", got, err, want)
	}
}

// keep leaves a dead letter whose message comes back: the next one finds it.
func keep() error { return nil }

// pass lets time go by, and all that happens then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func texts(messages []messaging.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = textOf(&messages[i])
	}
	return list
}

func textOf(m *messaging.Message) string {
	var said struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(m.AppendJSON(nil), &said); err != nil {
		return err.Error()
	}
	return said.Text
}

func receipts(messages []messaging.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = messages[i].Receipt
	}
	return list
}
