package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

const unprocessable = 422 // a status of the backend

// lettered is a rig whose store of dead letters is tested.
type lettered struct{ *rig }

func newLettered(tb testing.TB) *lettered {
	tb.Helper()
	return &lettered{newRig(tb, engine.Config{})}
}

func (l *lettered) store() *engine.DeadLetters { return l.engine.DeadLetters() }

// crash restarts from what was durable.
func (l *lettered) crash() {
	l.tb.Helper()
	fs := l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})
	control := l.control.Clone()
	l.close()
	l.fs, l.control = fs, control
	l.open()
}

// single returns a single message that the backend refused.
func single(seq uint64, reason string) messaging.DeadLetter {
	id := messaging.MessageID{0: byte(seq >> 8), 1: byte(seq)}
	return messaging.DeadLetter{
		Kind: messaging.Refused, Reason: reason, StatusCode: 400, Attempts: 1, FailedAt: time.Unix(100, 0),
		Message: messaging.Message{
			ID: id, Origin: id, Position: messaging.Position{Sequence: seq}, CreatedAt: time.UnixMilli(5000),
			Receiver: messaging.Receiver{User: "u", Quoted: true}, Body: []byte(`{"n":9007199254740993}`),
		},
	}
}

// copies returns copies of one broadcast that the backend refused, for u<n> each.
func copies(reason string, receivers ...int) (letters []messaging.DeadLetter) {
	origin := messaging.MessageID{9}
	base := messaging.Message{ID: origin, Origin: origin, Position: messaging.Position{Sequence: 5}, CreatedAt: time.UnixMilli(5000), Body: []byte(`{"text":"x"}`)}
	for _, n := range receivers {
		m := base.CopyTo(uint32(n), messaging.Receiver{User: messaging.UserID(fmt.Sprint("u", n)), Quoted: true})
		letters = append(letters, messaging.DeadLetter{Kind: messaging.Refused, Reason: reason, Attempts: 1, FailedAt: time.Unix(100, 0), Message: m})
	}
	return letters
}

func (l *lettered) add(letters ...messaging.DeadLetter) {
	l.tb.Helper()
	if err := l.store().AddDeadLetters(letters, messaging.Progress{}); err != nil {
		l.tb.Fatal(err)
	}
}

// listed returns all dead letters of a kind and a reason; "" matches all.
func (l *lettered) listed(kind messaging.DeadLetterKind, reason string, limit int) (all []messaging.DeadLetter) {
	l.tb.Helper()
	filter := messaging.DeadLetterFilter{Limit: limit, Kind: kind, Reason: reason}
	for {
		page, err := l.store().ListDeadLetters(filter)
		if err != nil {
			l.tb.Fatal(err)
		}
		if len(page.DeadLetters) > limit {
			l.tb.Errorf("a page has %d letters, want %d", len(page.DeadLetters), limit)
		}
		if all = append(all, page.DeadLetters...); page.Next == "" {
			if reason == "" && page.Total != len(all) {
				l.tb.Errorf("%d are counted, %d are there", page.Total, len(all))
			}
			return all
		}
		filter.After = page.Next
	}
}

func (l *lettered) recipients(d *messaging.DeadLetter) []messaging.DeadRecipient {
	l.tb.Helper()
	recipients, err := l.store().DeadRecipients(d, "", 1<<20)
	if err != nil {
		l.tb.Fatal(err)
	}
	if len(recipients) != d.Recipients {
		l.tb.Errorf("%s: %d recipients are counted, %d are there", d.ID, d.Recipients, len(recipients))
	}
	return recipients
}

func usersOf(recipients []messaging.DeadRecipient) string {
	var list []string
	for i := range recipients {
		list = append(list, string(recipients[i].Message.Receiver.User))
	}
	return strings.Join(list, " ")
}

// summary returns reason, attempts, time and recipients of each letter.
func (l *lettered) summary() string {
	l.tb.Helper()
	var lines []string
	letters := l.listed("", "", 1000)
	for i := range letters {
		d := &letters[i]
		lines = append(lines, fmt.Sprintf("%s %d at %d: %s", d.Reason, d.Attempts, d.FailedAt.Unix(), usersOf(l.recipients(d))))
		if found, ok, err := l.store().FindDeadLetter(d.ID); err != nil || !ok || found.Reason != d.Reason || found.Recipients != d.Recipients {
			l.tb.Errorf("%s is listed, and found as %+v (%t %v)", d.ID, found, ok, err)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func (l *lettered) want(summary string) {
	l.tb.Helper()
	if got := l.summary(); got != summary {
		l.tb.Errorf("the letters are\n%s, want\n%s", got, summary)
	}
}

func (l *lettered) claim(job string, recipients []messaging.DeadRecipient, want ...bool) {
	l.tb.Helper()
	has, err := l.store().ClaimDeadLetters(job, recipients)
	got := make([]bool, len(has))
	for i := range has {
		got[i] = has[i] == messaging.Claimed
	}
	if err != nil || !slices.Equal(got, want) {
		l.tb.Errorf("job %s claims %v (%v), want %v", job, has, err, want)
	}
}

func (l *lettered) begin(job string) {
	l.tb.Helper()
	if err := l.store().SaveProgress(messaging.Progress{Job: job, Record: []byte(`{"state":"running"}`)}); err != nil {
		l.tb.Fatal(err)
	}
}

func (l *lettered) finish(job string, stored []messaging.DeadRecipient, refused []messaging.DeadRefusal, kept []messaging.DeadRecipient) {
	l.tb.Helper()
	if err := l.store().FinishRedrive(job, stored, refused, kept, messaging.Progress{}); err != nil {
		l.tb.Fatal(err)
	}
}

func (l *lettered) drop(id string, want bool) {
	l.tb.Helper()
	if ok, err := l.store().DropDeadLetter(id); ok != want || err != nil {
		l.tb.Errorf("dropping %s returns %t (%v), want %t", id, ok, err, want)
	}
}

func refusals(reason string, at int64, recipients ...messaging.DeadRecipient) (list []messaging.DeadRefusal) {
	for _, r := range recipients {
		list = append(list, messaging.DeadRefusal{Recipient: r, Reason: reason, StatusCode: unprocessable, FailedAt: time.Unix(at, 0)})
	}
	return list
}

// takeAway takes messages, and waits until that is durable.
func (l *lettered) takeAway(user string) []string {
	l.tb.Helper()
	got := l.take(user, 100)
	if err := l.store().SaveProgress(messaging.Progress{}); err != nil { // a commit after it
		l.tb.Fatal(err)
	}
	return got
}
