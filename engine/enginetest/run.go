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

// run is one running case.
type run struct {
	*testing.T

	rig Rig
}

func (r *run) engine() Engine { return r.rig.Engine() }

// fatal is a *testing.T or the model's *rapid.T.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// message returns a draft; fields is additional JSON.
func message(tb fatal, user, text string, p messaging.Priority, fields string) messaging.Draft {
	tb.Helper()
	d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":%q,"priority":%q%s}`, user, text, p, fields))
	if err != nil {
		tb.Fatalf("parse a message: %v", err)
	}
	return d
}

func (r *run) send(user, text string, p messaging.Priority, fields ...string) messaging.SendResult {
	r.Helper()
	if len(fields) > 0 {
		fields = append([]string{""}, fields...) // so that the first field also gets a comma
	}
	result, err := r.engine().Send(message(r, user, text, p, strings.Join(fields, ",")), messaging.IdempotencyKey{})
	if err != nil {
		r.Fatalf("send %s: %v", text, err)
	}
	return result
}

func broadcastOf(r *run, text, fields string, users ...string) messaging.Broadcast {
	r.Helper()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q%s},"user_ids":["%s"]}`, text, fields, strings.Join(users, `","`)))
	if err != nil {
		r.Fatalf("parse a broadcast: %v", err)
	}
	return b
}

func (r *run) broadcast(text, fields string, users ...string) messaging.SendResult {
	r.Helper()
	result, err := r.engine().Broadcast(broadcastOf(r, text, fields, users...), messaging.IdempotencyKey{})
	if err != nil {
		r.Fatalf("broadcast: %v", err)
	}
	return result
}

// take takes messages, under a lease unless lease is 0, and returns them.
func (r *run) take(user string, limit int, lease time.Duration) []messaging.Message {
	r.Helper()
	h, err := r.engine().Take(r.Context(), messaging.UserID(user), messaging.TakeOptions{Limit: limit, Lease: lease})
	if err != nil {
		r.Fatalf("take: %v", err)
	}
	h.Finish(true)
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

// wantOutcomes compares the outcomes of a call with receipts.
func (r *run) wantOutcomes(got []messaging.Outcome, err error, want ...messaging.Outcome) {
	r.Helper()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		r.Fatalf("outcomes %v (%v), want %v", got, err, want)
	}
}

// undeliverable returns the undeliverable dead letters.
func undeliverable(tb fatal, rig Rig) []messaging.DeadLetter {
	tb.Helper()
	page, err := rig.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000, Kind: messaging.Undeliverable})
	if err != nil {
		tb.Fatalf("list dead letters: %v", err)
	}
	return page.DeadLetters
}

// recipientsOf returns the recipients of a dead letter.
func recipientsOf(tb fatal, rig Rig, letter *messaging.DeadLetter) []messaging.DeadRecipient {
	tb.Helper()
	recipients, err := rig.DeadLetters().DeadRecipients(letter, "", 1000)
	if err != nil || len(recipients) == 0 || len(recipients) != letter.Recipients {
		tb.Fatalf("dead letter %s has %d recipients and lists %d (%v)", letter.ID, letter.Recipients, len(recipients), err)
	}
	return recipients
}

// pass advances the time, and waits for the effects.
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
