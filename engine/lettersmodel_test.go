package engine_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// letterMachine is a store of dead letters and its model.
type letterMachine struct {
	*lettered

	model    *letterModel
	messages map[uint64]messaging.Message // those of broadcasts as a copy
	now      int64
}

var (
	modelUsers   = []messaging.UserID{"a", "b", "c", "dd"}
	modelReasons = []string{"one", "two", "three"}
	modelJobs    = []string{"j1", "j2", "j3"}
)

const modelMessages = 5 // the first two for user a alone, the others for all

func newLetterMachine(tb testing.TB) *letterMachine {
	tb.Helper()
	m := &letterMachine{lettered: newLettered(tb), model: newLetterModel(), messages: make(map[uint64]messaging.Message), now: 1000}
	for seq := uint64(1); seq <= modelMessages; seq++ {
		if seq <= 2 {
			m.send("a", fmt.Sprint(seq), messaging.Normal)
		} else {
			m.broadcast(fmt.Sprint(seq), "a", "b", "c", "dd")
		}
	}
	for _, user := range modelUsers {
		m.takeAway(string(user))
	}
	for seq := uint64(1); seq <= modelMessages; seq++ {
		page, _, err := m.log.Read(messaging.Position{Sequence: seq}, 1, 1<<20)
		if err != nil {
			tb.Fatal(err)
		}
		m.messages[seq] = page[0]
	}
	return m
}

// message returns the message of one recipient.
func (m *letterMachine) message(r modelRecipient) messaging.Message {
	message := m.messages[r.seq]
	if message.Copy {
		return message.CopyTo(uint32(slices.Index(modelUsers, r.user)), messaging.Receiver{User: r.user, Quoted: true})
	}
	return message
}

func drawKind(rt *rapid.T) messaging.DeadLetterKind {
	return rapid.SampledFrom(storage.LetterKinds()).Draw(rt, "kind")
}

func drawRecipient(rt *rapid.T, kind messaging.DeadLetterKind) modelRecipient {
	r := modelRecipient{kind, rapid.Uint64Range(1, modelMessages).Draw(rt, "sequence"), "a"}
	if r.seq > 2 {
		r.user = rapid.SampledFrom(modelUsers).Draw(rt, "user")
	}
	return r
}

// drawSome draws recipients with a reason, mostly of existing letters.
func (m *letterMachine) drawSome(rt *rapid.T, kind messaging.DeadLetterKind, what string) (some []messaging.DeadRecipient) {
	there := slices.SortedFunc(maps.Keys(m.model.recipients), func(a, b modelRecipient) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.seq, b.seq), cmp.Compare(a.user, b.user))
	})
	there = slices.DeleteFunc(there, func(r modelRecipient) bool { return r.kind != kind })
	for range rapid.IntRange(0, 4).Draw(rt, what) {
		r, reason := drawRecipient(rt, kind), rapid.SampledFrom(modelReasons).Draw(rt, "reason")
		if len(there) > 0 && rapid.IntRange(0, 9).Draw(rt, "there") > 0 {
			r = rapid.SampledFrom(there).Draw(rt, "which")
			reason = m.model.recipients[r].reason
		}
		some = append(some, messaging.DeadRecipient{Kind: r.kind, Reason: reason, Message: m.message(r)})
	}
	return some
}

func modelOf(r *messaging.DeadRecipient) modelRecipient {
	return modelRecipient{r.Kind, r.Message.Position.Sequence, r.Message.Receiver.User}
}

// progress moves the drain's position in some changes.
func (m *letterMachine) progress(rt *rapid.T) (p messaging.Progress) {
	if rapid.Bool().Draw(rt, "progress") {
		m.model.position = messaging.Position{Sequence: rapid.Uint64Range(1, modelMessages+1).Draw(rt, "position")}
		p.Position = &m.model.position
	}
	return p
}

func (m *letterMachine) add(rt *rapid.T) {
	var letters []messaging.DeadLetter
	for range rapid.IntRange(1, 6).Draw(rt, "letters") {
		r := drawRecipient(rt, drawKind(rt))
		if r.kind == messaging.Undeliverable && m.model.queued[r] {
			continue // it is in its queue
		}
		reason, attempts := rapid.SampledFrom(modelReasons).Draw(rt, "reason"), rapid.IntRange(1, 5).Draw(rt, "attempts")
		m.now += rapid.Int64Range(0, 10).Draw(rt, "later")
		at := time.Unix(m.now, 0)
		m.model.add(r, reason, attempts, at)
		letters = append(letters, messaging.DeadLetter{Kind: r.kind, Reason: reason, Attempts: attempts, FailedAt: at, Message: m.message(r)})
	}
	if err := m.store().AddDeadLetters(letters, m.progress(rt)); err != nil {
		rt.Fatal(err)
	}
}

func (m *letterMachine) begin(rt *rapid.T) {
	job := rapid.SampledFrom(modelJobs).Draw(rt, "job")
	m.model.running[job] = true
	m.lettered.begin(job)
}

func (m *letterMachine) end(rt *rapid.T) {
	job := rapid.SampledFrom(modelJobs).Draw(rt, "job")
	delete(m.model.running, job)
	err := m.store().SaveProgress(messaging.Progress{Job: job, Record: []byte("{}"), Ended: true})
	if rapid.Bool().Draw(rt, "forget") && err == nil {
		err = m.store().ForgetJob(job)
	}
	if err != nil {
		rt.Fatal(err)
	}
}

func (m *letterMachine) claim(rt *rapid.T) {
	m.claimSome(rt, rapid.SampledFrom(modelJobs).Draw(rt, "job"))
}

func (m *letterMachine) claimSome(rt *rapid.T, job string) []messaging.DeadRecipient {
	some := m.drawSome(rt, messaging.Refused, "claims")
	has, err := m.store().ClaimDeadLetters(job, some)
	if err != nil || len(has) != len(some) {
		rt.Fatalf("%d claims of %d (%v)", len(has), len(some), err)
	}
	for i := range some {
		if want := m.model.claim(modelOf(&some[i]), some[i].Reason, job); has[i] != want {
			rt.Fatalf("job %s claims %+v: %d, want %d", job, some[i], has[i], want)
		}
	}
	return some
}

func (m *letterMachine) finish(rt *rapid.T) {
	job := rapid.SampledFrom(modelJobs).Draw(rt, "job")
	stored, refused, kept := m.drawSome(rt, messaging.Refused, "stored"), m.drawSome(rt, messaging.Refused, "refused"), m.drawSome(rt, messaging.Refused, "kept")
	refused = append(refused, m.claimSome(rt, job)...)
	holds := func(r *messaging.DeadRecipient) bool {
		f, ok := m.model.recipients[modelOf(r)]
		return ok && f.job == job && f.reason == r.Reason
	}
	for i := range stored {
		if holds(&stored[i]) {
			m.model.remove(modelOf(&stored[i]))
		}
	}
	var list []messaging.DeadRefusal
	for i := range refused {
		reason := rapid.SampledFrom(modelReasons).Draw(rt, "new reason")
		m.now++
		list = append(list, refusals(reason, m.now, refused[i])...)
		if k := modelOf(&refused[i]); holds(&refused[i]) {
			attempts := m.model.recipients[k].attempts + 1
			m.model.remove(k)
			m.model.put(k, reason, attempts, time.Unix(m.now, 0))
			f := m.model.recipients[k]
			f.refusedIn = job
			m.model.recipients[k] = f
		}
	}
	for i := range kept {
		if k := modelOf(&kept[i]); holds(&kept[i]) {
			f := m.model.recipients[k]
			f.job = ""
			m.model.recipients[k] = f
		}
	}
	if err := m.store().FinishRedrive(job, stored, list, kept, m.progress(rt)); err != nil {
		rt.Fatal(err)
	}
}

func (m *letterMachine) requeue(rt *rapid.T) {
	some := m.drawSome(rt, messaging.Undeliverable, "requeued")
	results, err := m.store().RequeueDeadLetters(some, m.progress(rt))
	if err != nil || len(results) != len(some) {
		rt.Fatalf("%d results of %d (%v)", len(results), len(some), err)
	}
	for i := range some {
		k := modelOf(&some[i])
		f, ok := m.model.recipients[k]
		there := ok && f.reason == some[i].Reason
		if results[i].Gone == there || results[i].Refusal != "" {
			rt.Fatalf("%+v is there: %t; the requeue returned %+v", some[i], there, results[i])
		}
		if there {
			m.model.remove(k)
			m.model.queued[k] = true
		}
	}
}

func (m *letterMachine) takeAll(rt *rapid.T) {
	user := rapid.SampledFrom(modelUsers).Draw(rt, "user")
	want := 0
	for k := range m.model.queued {
		if k.user == user {
			delete(m.model.queued, k)
			want++
		}
	}
	if got := m.takeAway(string(user)); len(got) != want {
		rt.Fatalf("user %s has %v, want %d", user, got, want)
	}
}

func (m *letterMachine) dropOne(rt *rapid.T) {
	letters := m.listed("", "", 100)
	if len(letters) == 0 {
		return
	}
	d := rapid.SampledFrom(letters).Draw(rt, "letter")
	m.drop(d.ID, true)
	m.model.drop(modelLetter{d.Kind, d.Message.Position.Sequence, d.Reason})
}

func (m *letterMachine) expire(rt *rapid.T) {
	before := time.Unix(m.now-rapid.Int64Range(0, 20).Draw(rt, "ago"), 0)
	want := 0
	for k, times := range m.model.letters {
		if times.last.Before(before) {
			m.model.drop(k)
			want++
		}
	}
	if n, err := m.store().Expire(before); n != want || err != nil {
		rt.Fatalf("%d letters expire (%v), want %d", n, err, want)
	}
}

// describe describes the store in the form of the model's String.
func (m *letterMachine) describe(rt *rapid.T) string {
	var lines []string
	letters := m.listed("", "", rapid.IntRange(1, 9).Draw(rt, "page"))
	ids := make(map[string]bool)
	for i := range letters {
		d := &letters[i]
		if _, ok, err := m.store().FindDeadLetter(d.ID); !ok || err != nil || ids[d.ID] {
			rt.Fatalf("%s is found: %t (%v), is the id of another one: %t", d.ID, ok, err, ids[d.ID])
		}
		ids[d.ID] = true
		var users []string
		for _, r := range m.recipients(d) {
			users = append(users, string(r.Message.Receiver.User))
		}
		slices.Sort(users)
		lines = append(lines, fmt.Sprintf("%s %d %s: %d %d %v", d.Kind, d.Message.Position.Sequence, d.Reason, d.Attempts, d.FailedAt.Unix(), users))
	}
	slices.Sort(lines)
	position, err := m.store().Position()
	if err != nil {
		rt.Fatal(err)
	}
	queued := 0
	for _, user := range modelUsers {
		size, err := m.engine.Size(user)
		if err != nil {
			rt.Fatal(err)
		}
		queued += int(size.Normal)
	}
	return fmt.Sprintf("%q, at %d, jobs %v, queued %d", lines, position.Sequence, m.jobsThatRun(rt), queued)
}

func (m *letterMachine) jobsThatRun(rt *rapid.T) (running []string) {
	jobs, err := m.rig.store.Jobs()
	if err != nil {
		rt.Fatal(err)
	}
	for id := range jobs {
		if !jobs[id].Ended {
			running = append(running, id)
		}
	}
	slices.Sort(running)
	return running
}

// TestDeadLettersAreLikeTheirModel compares the store with the model over random changes,
// restarts and crashes. After each restart or crash it checks the tables against each
// other.
func TestDeadLettersAreLikeTheirModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newLetterMachine(t)
		defer m.close()
		rt.Repeat(map[string]func(*rapid.T){
			"add": m.add, "add more": m.add, "begin a job": m.begin, "end a job": m.end, "claim": m.claim, "claim more": m.claim, "finish": m.finish,
			"requeue": m.requeue, "take": m.takeAll, "drop": m.dropOne, "expire": m.expire,
			"restart": func(*rapid.T) { m.reopen() },
			"crash":   func(*rapid.T) { m.crash() },
			"": func(rt *rapid.T) {
				if got, want := m.describe(rt), m.model.String(); got != want {
					rt.Fatalf("the store has\n%s, want\n%s", got, want)
				}
				if t.Failed() {
					rt.Fatal("see above")
				}
			},
		})
	})
}
