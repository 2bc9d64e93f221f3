package persist

import "time"

// The judgement of a response is a pure function. The drain, replays and redrives
// differ only in how they apply its decisions. The contract's evidence rule and table
// specify it; TestJudge has a row for each of their rows.

// evidenceReach is the maximum age of the evidence at a message's first try. Older
// evidence does not show that a refusal is the message's own fault.
const evidenceReach = time.Minute

// maxRefusals is how many messages of one batch may be refused alone while nothing is
// stored, before that counts as an outage.
const maxRefusals = 8

// attemptInfo is what is known about a message from its tries.
type attemptInfo struct {
	firstTry time.Time
	// attempts counts the responses that refused this message itself; an outage does
	// not count.
	attempts int
	// alone means that the message must be sent in a batch of its own.
	alone bool
	// suspect means that the message was refused alone while others were stored.
	suspect bool
}

// action is what happens to a message.
type action int

const (
	// actStore settles the message: the backend has it.
	actStore action = iota
	// actDead makes the message a dead letter.
	actDead
	// actAlone sends the message again at once, in a batch of its own.
	actAlone
	// actConfirm sends the message again after a pause, in a batch of its own, before
	// it is judged finally.
	actConfirm
	// actBackOff tries the message again after a pause; its conversation waits for it.
	actBackOff
	// actKeep returns the message to its lane; it is not to blame.
	actKeep
	// actHold keeps a message that was refused alone in the batch; it is judged when
	// the batch ends.
	actHold
	// actHalve sends the message again in one half of the part.
	actHalve
)

var actionNames = [...]string{"store", "dead", "alone", "confirm", "back off", "keep", "hold", "halve"}

func (a action) String() string { return actionNames[a] }

// refusal is a refused message with the status and the reason of its refusal.
type refusal struct {
	attemptInfo

	status int
	reason string
}

// disposition is the decision about one message: the action, the updated attempt state,
// and the reason for a refusal.
type disposition struct {
	refusal

	action action
}

// judgeInput is the input of judge. A batch may be sent in several parts, one after the
// other; the response is to one of them.
type judgeInput struct {
	response    Response
	now         time.Time
	maxAttempts int
	// stored is the evidence: when the backend last stored something; zero if never.
	stored time.Time
	// part holds the messages that were sent, in the order of the response.
	part []attemptInfo
	// size is the number of messages in the whole batch. began is when the batch was
	// first sent. held are its messages that were refused alone in earlier parts.
	size  int
	began time.Time
	held  []refusal
	// last means that no other part is left. stopped means that no other part may be
	// sent.
	last, stopped bool
}

// evidenceChange is the effect of a response on the evidence.
type evidenceChange int

const (
	evidenceUnchanged evidenceChange = iota
	evidenceStored                   // something was stored now
	evidenceReset                    // a whole batch was refused: earlier evidence no longer counts
)

// decision is the result of judge.
type decision struct {
	// part has a disposition for each message of the part. held has one for each held
	// message, and is empty while the batch continues.
	part, held []disposition
	// over means that no further part of the batch is sent.
	over bool
	// outage is the response that shows an outage, including the pause that the backend
	// asked for; nil without an outage. ended means that the backend takes messages,
	// which ends an outage.
	outage   *Response
	ended    bool
	evidence evidenceChange
}

// judge decides what a response means.
func judge(q judgeInput) decision {
	var d decision
	switch q.response.Class {
	case Accounted:
		q.judgeResults(&d)
	case Mismatched, Rejected:
		q.judgeRefusal(&d)
	default:
		q.keepAll(&d)
		d.outage, d.over = &q.response, true
	}
	d.over = d.over || q.stopped || (q.last && !d.halves())
	if d.over {
		q.conclude(&d)
	}
	return d
}

func (d *decision) halves() bool { return len(d.part) > 1 && d.part[0].action == actHalve }

func (q *judgeInput) keepAll(d *decision) {
	d.part = make([]disposition, len(q.part))
	for i := range q.part {
		d.part[i] = disposition{refusal{attemptInfo: q.part[i]}, actKeep}
	}
}

// implicates reports whether a message first tried at firstTry is to blame for its
// refusal: something was stored after that try, or at most evidenceReach before it.
func (q *judgeInput) implicates(firstTry time.Time) bool {
	return q.storedSince(firstTry.Add(-evidenceReach))
}

func (q *judgeInput) storedSince(moment time.Time) bool {
	return !q.stored.IsZero() && !q.stored.Before(moment)
}

// judgeResults judges a part from the result of each message.
func (q *judgeInput) judgeResults(d *decision) {
	stored, hinted := 0, false
	for i := range q.part {
		res := &q.response.Results[i]
		if res.Stored {
			stored++
		}
		hinted = hinted || res.Suspect || res.Permanent
	}
	if stored == 0 && len(q.part) > 1 && !hinted {
		q.keepAll(d)
		q.reset(d)
		d.over = true
		d.outage = &Response{
			Class: Unavailable, Status: q.response.Status,
			Reason: "it returned an error for every message of a batch, as it does when its database is down",
		}
		return
	}
	if stored > 0 && !q.response.Old { // a duplicate shows nothing about what the backend takes now
		d.evidence, q.stored = evidenceStored, q.now
	}
	d.part = make([]disposition, len(q.part))
	dead := 0
	for i := range q.part {
		d.part[i] = q.judgeResult(i)
		if d.part[i].action == actDead {
			dead++
		}
	}
	if stored+dead == 0 && !q.implicates(q.part[0].firstTry) {
		d.outage = &Response{
			Class: Accounted, Status: q.response.Status,
			Reason: "it returns errors for everything, and nothing was stored that would show that the messages are to blame",
		}
		return
	}
	d.ended = true
}

// judgeResult applies the evidence rule to one message. An error that looks permanent
// is judged at the second try, which the message has in a batch of its own.
func (q *judgeInput) judgeResult(i int) disposition {
	res, t := &q.response.Results[i], q.part[i]
	if res.Stored {
		return disposition{refusal{attemptInfo: t}, actStore}
	}
	t.attempts++
	f := disposition{refusal{t, q.response.Status, res.Error}, actBackOff}
	switch {
	case res.Permanent:
		f.action = actDead
	case res.Suspect && !t.alone:
		f.alone, f.action = true, actAlone
	case res.Suspect:
		if len(q.part) == 1 && q.implicates(t.firstTry) {
			f.action = actDead
		}
	case t.attempts >= q.maxAttempts && q.implicates(t.firstTry):
		f.action = actDead
	}
	return f
}

// judgeRefusal halves a part that was refused as a whole. A message that was refused
// alone is held until the batch ends. If the numbers of its response do not add up, it
// is instead tried again until its last attempt.
func (q *judgeInput) judgeRefusal(d *decision) {
	if len(q.part) > 1 {
		q.keepAll(d)
		for i := range d.part {
			if !q.stopped {
				d.part[i].action = actHalve
			}
		}
		return
	}
	t := q.part[0]
	t.attempts++
	f := disposition{refusal{t, q.response.Status, q.response.Reason}, actHold}
	if q.response.Class == Mismatched && t.attempts < q.maxAttempts {
		f.action = actBackOff
	}
	d.part = []disposition{f}
	d.over = f.action == actHold && len(q.held)+1 >= maxRefusals && !q.storedSince(q.began)
}

// conclude judges the held messages. A message that was the whole batch is judged by
// the evidence rule. If the batch had several messages, some must have been stored
// meanwhile; if none was, the backend refuses everything, which is an outage. Otherwise
// the refused messages are tried once more, because an outage may have ended during the
// batch.
func (q *judgeInput) conclude(d *decision) {
	implicated, held := 0, len(q.held)
	status := 0
	decide := func(r refusal) disposition {
		f := disposition{r, actBackOff}
		status = r.status
		if (q.size == 1 && q.implicates(r.firstTry)) || (q.size > 1 && q.storedSince(q.began)) {
			implicated++
			f.action = actConfirm
			if r.suspect {
				f.action = actDead
			}
			f.suspect, f.alone = true, true
		}
		return f
	}
	d.held = make([]disposition, len(q.held))
	for i := range q.held {
		d.held[i] = decide(q.held[i])
	}
	for i := range d.part {
		if d.part[i].action == actHold {
			d.part[i] = decide(d.part[i].refusal)
			held++
		}
	}
	if held == 0 || implicated > 0 {
		return
	}
	if held > 1 {
		q.reset(d)
	}
	if d.outage == nil {
		d.ended = false
		d.outage = &Response{Class: Rejected, Status: status, Reason: "it refuses every message"}
	}
}

// reset clears the evidence: what the backend stored earlier no longer shows that it
// works.
func (q *judgeInput) reset(d *decision) { d.evidence, q.stored = evidenceReset, time.Time{} }
