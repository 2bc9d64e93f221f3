package persist

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// judgeNow is when the responses in the tables arrive. Everything was sent, and by
// default first tried, one second earlier.
var judgeNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const judgeAttempts = 5

func at(before time.Duration) time.Time { return judgeNow.Add(-before) }

// message returns a message at its first try, modified by the changes.
func message(changes ...func(t *attemptInfo)) attemptInfo {
	t := attemptInfo{firstTry: at(time.Second)}
	for _, change := range changes {
		change(&t)
	}
	return t
}

func attempts(n int) func(t *attemptInfo) { return func(t *attemptInfo) { t.attempts = n } }
func alone(t *attemptInfo)                { t.alone = true }
func suspect(t *attemptInfo)              { t.suspect, t.alone = true, true }
func firstTried(before time.Duration) func(t *attemptInfo) {
	return func(t *attemptInfo) { t.firstTry = at(before) }
}

func fresh(n int) (part []attemptInfo) {
	for range n {
		part = append(part, message())
	}
	return part
}

// says returns a 2xx response with a result per message: s(tored), d(uplicate),
// e(rror), h (an error that looks permanent), p(ermanent).
func says(results string) Response {
	r := Response{Class: Accounted, Status: 200, Old: !strings.Contains(results, "s")}
	for _, c := range results {
		r.Results = append(r.Results, map[rune]Result{
			's': {Stored: true}, 'd': {Stored: true}, 'e': {Error: "no"}, 'h': {Error: "no row", Suspect: true}, 'p': {Error: "never", Permanent: true},
		}[c])
	}
	return r
}

func refuses(status int) Response { return Response{Class: Rejected, Status: status, Reason: "bad"} }

// outageResponse returns a response that is not about messages.
func outageResponse(c Class, status int) Response {
	return Response{Class: c, Status: status, Reason: "because", RetryAfter: time.Minute}
}

// describe formats a decision: the actions with the attempts after them, held messages
// first, and then the decision about the whole batch.
func describe(d decision) string {
	var words []string
	add := func(prefix string, dispositions []disposition) {
		for _, f := range dispositions {
			w := fmt.Sprintf("%s%s:%d", prefix, f.action, f.attempts)
			if f.suspect {
				w += "?"
			}
			words = append(words, w)
		}
	}
	add("held ", d.held)
	add("", d.part)
	if d.over {
		words = append(words, "over")
	}
	if d.outage != nil {
		words = append(words, "outage "+d.outage.Class.String())
	}
	if d.ended {
		words = append(words, "works")
	}
	switch d.evidence {
	case evidenceStored:
		words = append(words, "evidence")
	case evidenceReset:
		words = append(words, "reset")
	case evidenceUnchanged:
	}
	return strings.Join(words, ", ")
}

type judgement struct {
	name     string
	response Response
	part     []attemptInfo
	stored   time.Time // the evidence; zero for none
	size     int       // of the batch; 0 means the size of the part
	held     []refusal
	more     bool // other parts follow
	stopped  bool
	want     string
}

var recently = at(30 * time.Second)

// accountedRows covers the contract's rows "good" and "2xx whose numbers do not add
// up".
var accountedRows = []judgement{
	{name: "all stored", response: says("sss"), part: fresh(3), want: "store:0, store:0, store:0, over, works, evidence"},
	{name: "duplicates are stored and no evidence", response: says("dd"), part: fresh(2), want: "store:0, store:0, over, works"},
	{name: "permanent, nothing stored ever", response: says("p"), part: fresh(1), want: "dead:1, over, works"},
	{name: "permanent for all", response: says("pp"), part: fresh(2), want: "dead:1, dead:1, over, works"},
	{name: "looks permanent, among others", response: says("sh"), part: fresh(2), want: "store:0, alone:1, over, works, evidence"},
	{name: "looks permanent, first try alone in its batch", response: says("h"), part: fresh(1), stored: recently, want: "alone:1, over, works"},
	{
		name: "looks permanent, alone, by evidence", response: says("h"), part: []attemptInfo{message(alone, attempts(1))}, stored: recently,
		want: "dead:2, over, works",
	},
	{
		name: "looks permanent, alone, without evidence", response: says("h"), part: []attemptInfo{message(alone, attempts(1))},
		want: "back off:2, over, outage message_error",
	},
	{name: "any other text is tried again", response: says("se"), part: fresh(2), want: "store:0, back off:1, over, works, evidence"},
	{
		name: "any other text, one try before the last", response: says("se"), part: []attemptInfo{message(), message(attempts(3))},
		want: "store:0, back off:4, over, works, evidence",
	},
	{
		name: "any other text, at the last try, by evidence", response: says("se"), part: []attemptInfo{message(), message(attempts(4))},
		want: "store:0, dead:5, over, works, evidence",
	},
	{
		name: "any other text, at the last try, alone, by evidence", response: says("e"), part: []attemptInfo{message(attempts(4))}, stored: recently,
		want: "dead:5, over, works",
	},
	{
		name: "any other text, after the last try, without evidence", response: says("e"), part: []attemptInfo{message(attempts(9))},
		want: "back off:10, over, outage message_error",
	},
	{
		name: "any other text, with only a duplicate besides", response: says("de"), part: []attemptInfo{message(), message(attempts(9))},
		want: "store:0, back off:10, over, works",
	},
	{name: "errors for all", response: says("eee"), part: fresh(3), stored: recently, want: "keep:0, keep:0, keep:0, over, outage unavailable, reset"},
	{name: "errors for all, some of which look permanent", response: says("eh"), part: fresh(2), stored: recently, want: "back off:1, alone:1, over, works"},
	{
		name: "errors for all, some of which look permanent, without evidence", response: says("eh"), part: fresh(2),
		want: "back off:1, alone:1, over, outage message_error",
	},
	{name: "numbers that do not add up", response: Response{Class: Mismatched, Status: 200}, part: fresh(4), want: "halve:0, halve:0, halve:0, halve:0"},
	{name: "numbers that do not add up, alone", response: Response{Class: Mismatched, Status: 200}, part: fresh(1), stored: recently, want: "back off:1, over"},
	{
		name: "numbers that do not add up, alone, at the last try", response: Response{Class: Mismatched, Status: 200}, part: []attemptInfo{message(attempts(4))},
		stored: recently, want: "confirm:5?, over",
	},
	{
		name: "numbers that do not add up, alone, confirmed", response: Response{Class: Mismatched, Status: 200},
		part: []attemptInfo{message(attempts(5), suspect)}, stored: recently, want: "dead:6?, over",
	},
}

// evidenceRows covers the evidence rule, for a message that was refused alone twice.
var evidenceRows = []judgement{
	{name: "never", want: "back off:2?, over, outage rejected"},
	{name: "a minute before the first try", stored: at(time.Minute + time.Second), want: "dead:2?, over"},
	{name: "more than a minute before the first try", stored: at(time.Minute + time.Second + time.Nanosecond), want: "back off:2?, over, outage rejected"},
	{name: "after the first try", stored: judgeNow, want: "dead:2?, over"},
}

// rejectedRows covers the contract's row "400, 413, 422".
var rejectedRows = []judgement{
	{name: "a batch", response: refuses(400), part: fresh(3), want: "halve:0, halve:0, halve:0"},
	{name: "a batch, and the drain stops", response: refuses(413), part: fresh(2), stopped: true, want: "keep:0, keep:0, over"},
	{name: "one of a batch, others follow", response: refuses(422), part: fresh(1), size: 4, more: true, want: "hold:1"},
	{name: "the last of a batch, others were stored", response: refuses(400), part: fresh(1), size: 4, stored: at(time.Second), want: "confirm:1?, over"},
	{
		name: "the last of a batch, nothing was stored since it began", response: refuses(400), part: fresh(1), size: 4, stored: recently,
		want: "back off:1, over, outage rejected",
	},
	{
		name: "several of a batch, others were stored", response: says("s"), part: fresh(1), size: 4,
		held: []refusal{{attemptInfo: message(attempts(1))}, {attemptInfo: message(attempts(2), suspect)}},
		want: "held confirm:1?, held dead:2?, store:0, over, works, evidence",
	},
	{
		name: "several of a batch, nothing was stored", response: refuses(400), part: fresh(1), size: 2, held: []refusal{{attemptInfo: message(attempts(1))}},
		stored: recently, want: "held back off:1, back off:1, over, outage rejected, reset",
	},
	{
		name: "eight alone and nothing stored: the rest is not sent", response: refuses(400), part: fresh(1), size: 100, more: true, held: make([]refusal, 7),
		want: strings.Repeat("held back off:0, ", 7) + "back off:1, over, outage rejected, reset",
	},
	{
		name: "eight alone and others stored", response: refuses(400), part: fresh(1), size: 100, more: true, held: make([]refusal, 7), stored: at(0),
		want: "hold:1",
	},
	{name: "alone, by evidence, the first time", response: refuses(400), part: fresh(1), stored: recently, want: "confirm:1?, over"},
	{
		name: "alone, by evidence, the second time", response: refuses(400), part: []attemptInfo{message(suspect, attempts(1))}, stored: recently,
		want: "dead:2?, over",
	},
	{name: "alone, without evidence", response: refuses(400), part: fresh(1), want: "back off:1, over, outage rejected"},
	{
		name: "alone, first tried before the outage, by later evidence", response: refuses(400),
		part: []attemptInfo{message(suspect, attempts(1), firstTried(time.Hour))}, stored: at(30 * time.Minute), want: "dead:2?, over",
	},
	{
		name: "an outage in the middle of a batch keeps the messages that were not refused", response: outageResponse(Unavailable, 503), part: fresh(2), size: 4,
		more: true, held: []refusal{{attemptInfo: message(attempts(1))}}, stored: recently, want: "held back off:1, keep:0, keep:0, over, outage unavailable",
	},
}

// outageRows covers the contract's rows for responses that are not about messages.
var outageRows = []judgement{
	{
		name: "a foreign body, another 4xx, a redirect", response: outageResponse(Misconfigured, 404), part: fresh(2), stored: recently,
		want: "keep:0, keep:0, over, outage misconfigured",
	},
	{name: "429", response: outageResponse(Throttled, 429), part: fresh(1), stored: recently, want: "keep:0, over, outage throttled"},
	{name: "408, a time-out", response: outageResponse(TimedOut, 408), part: fresh(2), stored: recently, want: "keep:0, keep:0, over, outage timed_out"},
	{name: "425, 5xx, a reset", response: outageResponse(Unavailable, 500), part: fresh(2), stored: recently, want: "keep:0, keep:0, over, outage unavailable"},
	{name: "refused, DNS, TLS", response: outageResponse(Unreached, 0), part: fresh(2), stored: recently, want: "keep:0, keep:0, over, outage unreached"},
	{
		name: "however often", response: outageResponse(Unavailable, 503), part: []attemptInfo{message(attempts(99), suspect)}, stored: recently,
		want: "keep:99?, over, outage unavailable",
	},
}

// TestJudge has a row for each row of the contract's evidence rule and table.
func TestJudge(t *testing.T) {
	for i := range evidenceRows {
		evidenceRows[i].response, evidenceRows[i].part = refuses(400), []attemptInfo{message(suspect, attempts(1))}
	}
	for group, rows := range map[string][]judgement{"good": accountedRows, "evidence": evidenceRows, "refusal": rejectedRows, "outage": outageRows} {
		for _, x := range rows {
			t.Run(group+"/"+x.name, func(t *testing.T) {
				q := judgeInput{
					response: x.response, now: judgeNow, maxAttempts: judgeAttempts, stored: x.stored, part: x.part,
					size: max(x.size, len(x.part)), began: at(time.Second), held: x.held, last: !x.more, stopped: x.stopped,
				}
				d := judge(q)
				if got := describe(d); got != x.want {
					t.Errorf("got  %s\nwant %s", got, x.want)
				}
				if !x.response.Class.judgesMessages() && (d.outage == nil || d.outage.RetryAfter != x.response.RetryAfter || d.outage.Reason != x.response.Reason) {
					t.Errorf("the outage is %+v, want %+v", d.outage, x.response)
				}
				if again := describe(judge(q)); again != x.want {
					t.Errorf("the same input again: %s", again)
				}
			})
		}
	}
}

// FuzzJudge: for any input, each message of the part has one disposition, a dead letter
// has a reason that the contract allows, and a finished batch holds no message.
func FuzzJudge(f *testing.F) {
	f.Add(uint8(0), uint8(3), uint8(2), uint8(1), uint8(0), true, false)
	f.Add(uint8(2), uint8(1), uint8(0), uint8(5), uint8(7), false, true)
	f.Fuzz(func(t *testing.T, class, n, kinds, tries, held uint8, last, stopped bool) {
		q := judgeInput{
			response: Response{Class: Class(int(class) % len(classNames)), Status: 200}, now: judgeNow, maxAttempts: judgeAttempts,
			began: at(time.Second), held: make([]refusal, held%8), last: last, stopped: stopped,
		}
		if kinds&1 > 0 {
			q.stored = recently
		}
		for i := range 1 + int(n)%8 {
			q.part = append(q.part, message(attempts(int(tries)%8)))
			if q.response.Class == Accounted {
				q.response.Results = append(q.response.Results, says(string("sdehp"[(int(kinds)+i*int(tries))%5])).Results...)
			}
		}
		q.size = len(q.part) + len(q.held)
		d := judge(q)
		if len(d.part) != len(q.part) || (len(d.held) != 0 && len(d.held) != len(q.held)) || (d.over && len(d.held) != len(q.held)) {
			t.Fatalf("%d dispositions for %d messages, %d for %d held, over is %t", len(d.part), len(q.part), len(d.held), len(q.held), d.over)
		}
		for i := range d.part {
			switch d.part[i].action {
			case actDead:
				if q.response.Class != Accounted && !d.part[i].suspect {
					t.Errorf("dead at the first refusal: %s", describe(d))
				}
				if q.response.Class == Accounted && !q.response.Results[i].Permanent && q.stored.IsZero() && d.evidence != evidenceStored {
					t.Errorf("dead without evidence: %s", describe(d))
				}
			case actHold, actHalve:
				if d.over {
					t.Errorf("a message stays in a batch that is over: %s", describe(d))
				}
			case actStore, actAlone, actConfirm, actBackOff, actKeep:
			}
		}
		if (q.last || q.stopped) && !d.over && !d.halves() {
			t.Errorf("nothing is left to send and the batch is not over: %s", describe(d))
		}
	})
}
