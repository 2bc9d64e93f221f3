package engine_test

import (
	"testing"
	"time"

	"github.com/stayafrica/messaging"
)

func TestARecipientIsClaimedByOneJob(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("first")
	l.begin("second")
	l.claim("first", all[:1], true)
	l.claim("second", all, false, true)
	l.claim("first", append(all, all[0]), true, false, true) // its own again, as after a restart
	l.crash()
	l.claim("second", all, false, true)
	l.finish("second", all, nil, nil) // without a claim it changes nothing
	l.want("r 1 at 100: u0")
	l.claim("second", all, false, false)
}

func TestKeptRecipientsAreFreeAgain(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("first")
	l.begin("second")
	l.claim("first", all, true, true)
	l.finish("second", nil, nil, all)
	l.claim("second", all, false, false)
	l.finish("first", nil, nil, all[:1])
	l.want("r 1 at 100: u0 u1")
	l.claim("second", all, true, false)
}

// A job that has ended, was removed or never existed has no claims.
func TestAClaimEndsWithItsJob(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("next")
	for job, end := range map[string]func() error{
		"ended": func() error {
			return l.store().SaveProgress(messaging.Progress{Job: "ended", Record: []byte(`{"state":"done"}`), Ended: true})
		},
		"forgotten":     func() error { return l.store().ForgetJob("forgotten") },
		"unknown at it": func() error { return nil },
	} {
		if job != "unknown at it" {
			l.begin(job)
		}
		l.claim(job, all, true)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		l.crash()
		l.claim("next", all, true)
		l.finish(job, all, nil, nil)
		l.finish("next", nil, nil, all)
		l.want("r 1 at 100: u0")
	}
}

// A message that fails elsewhere during its redrive stays in the claimed letter. After the
// redrive it moves.
func TestAMessageThatFailsDuringItsRedriveKeepsItsClaim(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("j")
	l.claim("j", all, true)
	l.add(copies("other", 0)...)
	l.want("r 1 at 100: u0")
	if err := l.store().SaveProgress(messaging.Progress{Job: "j", Record: []byte(`{"state":"failed"}`), Ended: true}); err != nil {
		t.Fatal(err)
	}
	l.add(copies("other", 0)...)
	l.want("other 1 at 100: u0")
}

func TestADeleteDuringARedriveWins(t *testing.T) {
	l := newLettered(t)
	l.add(copies("r", 0, 1)...)
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.begin("j")
	l.claim("j", all, true, true)
	l.drop(d.ID, true)
	l.finish("j", all[:1], refusals("again", 200, all[1]), nil)
	l.want("")
}

func TestJobsAreKept(t *testing.T) {
	l := newLettered(t)
	for id, record := range map[string]string{"a": "one", "b": "two"} {
		if err := l.store().SaveProgress(messaging.Progress{Job: id, Record: []byte(record)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.store().ForgetJob("a"); err != nil {
		t.Fatal(err)
	}
	l.crash()
	jobs, err := l.store().Jobs()
	if err != nil || len(jobs) != 1 || string(jobs["b"]) != "two" {
		t.Errorf("%q %v", jobs, err)
	}
}

func (l *lettered) wantProgress(position messaging.Position, record string) {
	l.tb.Helper()
	at, err := l.store().Position()
	if err != nil || at != position {
		l.tb.Errorf("the position is %+v (%v), want %+v", at, err, position)
	}
	if jobs, err := l.store().Jobs(); err != nil || string(jobs["j"]) != record {
		l.tb.Errorf("the job is %q (%v), want %q", jobs["j"], err, record)
	}
}

// Each change of dead letters saves the progress in its commit.
func TestProgressIsSavedInTheSameCommit(t *testing.T) {
	l := newLettered(t)
	for range 9 { // records for the drain
		l.send("u", "x", messaging.Normal)
	}
	l.wantProgress(messaging.Position{}, "")
	progress := func(seq uint64, record string) messaging.Progress {
		return messaging.Progress{Position: &messaging.Position{Sequence: seq, Receiver: 3}, Job: "j", Record: []byte(record)}
	}
	if err := l.store().AddDeadLetters(copies("r", 0, 1), progress(2, "added")); err != nil {
		t.Fatal(err)
	}
	l.wantProgress(messaging.Position{Sequence: 2, Receiver: 3}, "added")
	if err := l.store().AddDeadLetters(nil, progress(3, "nothing added")); err != nil {
		t.Fatal(err)
	}
	l.wantProgress(messaging.Position{Sequence: 3, Receiver: 3}, "nothing added")
	d := l.listed("", "", 10)[0]
	all := l.recipients(&d)
	l.claim("j", all, true, true)
	if err := l.store().FinishRedrive("j", all, nil, nil, progress(4, "finished")); err != nil {
		t.Fatal(err)
	}
	l.wantProgress(messaging.Position{Sequence: 4, Receiver: 3}, "finished")
	if _, err := l.store().RequeueDeadLetters(all, progress(5, "requeued")); err != nil {
		t.Fatal(err)
	}
	l.wantProgress(messaging.Position{Sequence: 5, Receiver: 3}, "requeued")
	if err := l.store().SaveProgress(messaging.Progress{}); err != nil { // changes nothing
		t.Fatal(err)
	}
	l.crash()
	l.wantProgress(messaging.Position{Sequence: 5, Receiver: 3}, "requeued")
	l.want("")
}

// An undeliverable message and a refused one with the same sequence are two letters.
func TestKindsAreSeparateLetters(t *testing.T) {
	l := newLettered(t)
	refused, undeliverable := copies("r", 0), copies("r", 0)
	undeliverable[0].Kind, undeliverable[0].FailedAt = messaging.Undeliverable, time.Unix(200, 0)
	l.add(append(refused, undeliverable...)...)
	l.want("r 1 at 100: u0; r 1 at 200: u0")
	l.drop(messaging.DeadLetterID(messaging.Refused, refused[0].Message.ID), true)
	l.want("r 1 at 200: u0")
}
