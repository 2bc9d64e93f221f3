package ledger

import (
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// scene is a ledger, queues and a Django that are consistent until a case changes them.
type scene struct {
	t    *testing.T
	plan Plan
	file *File
	// left is what the queues have, and stored what Django got.
	left   map[int][]received
	stored []storedLine
	lines  [][]string // further lines of the sink
	dead   []received
	last   uint64
	// priorities are those of the messages that are in place.
	priorities map[Ref]int
}

type storedLine struct {
	m    received
	user int
}

const testCalls = 60

// newScene returns a scene with calls 1 to 60 answered and all of their messages in
// place.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, plan: Plan{Seed: 5, Users: 6, Conversations: 4, Text: 100}, left: make(map[int][]received), priorities: make(map[Ref]int)}
	var err error
	if s.file, err = Create(filepath.Join(t.TempDir(), "ledger")); err != nil {
		t.Fatal(err)
	}
	p := s.plan
	s.file.Append(lineHead, "1", utoa(p.Seed), strconv.Itoa(p.Users), strconv.Itoa(p.Conversations), strconv.Itoa(p.Text))
	s.file.Append(lineReserved, "1", "300")
	for n := uint64(1); n <= testCalls; n++ {
		s.answer(n)
	}
	return s
}

// answer records a call as answered and puts its messages in place.
func (s *scene) answer(number uint64) {
	c := s.plan.call(number)
	words := []string{lineAnswered, utoa(number), utoa(s.last + 1)}
	for range c.messages {
		words = append(words, "01a20b45-1895-76bd-b871-"+strconv.FormatUint(1e11+number*1000+uint64(len(words)), 10))
	}
	s.file.Append(words...)
	s.place(&c, answered{sequence: s.last + 1, ids: words[3:]})
}

// place puts the messages of a call where they belong.
func (s *scene) place(c *call, a answered) {
	for _, it := range c.items() {
		id, sequence, err := a.of(it, c.kind == broadcast)
		if err != nil {
			s.t.Fatal(err)
		}
		m := received{id: id, sequence: sequence, ref: it.Ref, user: userName(it.user), digest: digest(c.tail(it))}
		s.left[it.user] = append(s.left[it.user], m)
		s.priorities[it.Ref] = c.messages[it.Index].priority
		switch sent := c.messages[it.Index]; {
		case sent.poison:
			s.lines = append(s.lines, []string{lineForGood, id})
			s.dead = append(s.dead, m)
		case !sent.known:
			s.stored = append(s.stored, storedLine{m, it.user})
		}
	}
	s.last += uint64(len(c.messages))
}

// judge judges the scene.
func (s *scene) judge() *Verdict {
	s.t.Helper()
	path := s.file.file.Name()
	if err := s.file.Close(); err != nil {
		s.t.Fatal(err)
	}
	sink, err := Create(path + ".sink")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, words := range s.lines {
		sink.Append(words...)
	}
	for _, line := range s.stored {
		sink.Append(lineStored, line.m.word(), userName(line.user))
	}
	if err := sink.Close(); err != nil {
		s.t.Fatal(err)
	}
	b, err := readLedger(path)
	if err != nil {
		s.t.Fatal(err)
	}
	j := newJudge(b)
	for user := range s.left {
		slices.SortStableFunc(s.left[user], func(x, y received) int { return s.priorities[x.ref] - s.priorities[y.ref] })
	}
	j.queues(s.left)
	if err := j.django(path+".sink", s.dead); err != nil {
		s.t.Fatal(err)
	}
	j.checkMissing(true)
	return &j.verdict
}

// user is the user whose queue a case changes.
const user = 3

// remove removes and returns the first message of the queue.
func (s *scene) remove() received {
	m := s.left[user][0]
	s.left[user] = s.left[user][1:]
	return m
}

// take records that the first message of the queue was taken, and leaves it there.
func (s *scene) take(number int, mode string, when time.Time) {
	s.announce(number, mode)
	s.file.Append(lineTook, strconv.Itoa(number), strconv.FormatInt(when.UnixMilli(), 10), wordNow, s.left[user][0].word())
}

// taking announces a take.
func (s *scene) announce(number int, mode string) {
	s.file.Append(lineTaking, strconv.Itoa(number), "0", "1", strconv.Itoa(user), "1", mode)
}

// cut records that the reader's connection broke.
func (s *scene) cut() { s.file.Append(lineCut, "0", "1", now()) }

func (s *scene) end(number int, result string) {
	s.file.Append(lineEnding, strconv.Itoa(number), "acked")
	if result != "" {
		s.file.Append(lineEnded, strconv.Itoa(number), now(), wordNow, result)
	}
}

// callOf finds an unanswered call of a kind, without a key.
func (s *scene) callOf(k kind) call {
	for n := uint64(testCalls + 1); n <= 300; n++ {
		if c := s.plan.call(n); c.kind == k && len(c.items()) > 1 {
			return c
		}
	}
	s.t.Fatal("there is no such call")
	return call{}
}

func TestJudgeFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(s *scene)
		want  []Kind // and no others
	}{
		{"all in place", func(*scene) {}, nil},
		{"a queue lacks one", func(s *scene) { s.remove() }, []Kind{Lost}},
		{"a queue has one twice", func(s *scene) { s.left[user] = append(s.left[user], s.left[user][0]) }, []Kind{Duplicated, Reordered}},
		{"a queue is out of order", func(s *scene) {
			l := s.left[user]
			for i := 1; i < len(l); i++ {
				if s.priorities[l[i-1].ref] == s.priorities[l[i].ref] {
					l[i-1], l[i] = l[i], l[i-1]
					return
				}
			}
		}, []Kind{Reordered}},
		{"a byte differs", func(s *scene) { s.left[user][0].digest++ }, []Kind{Altered}},
		{"it has another id", func(s *scene) { s.left[user][0].id = "other" }, []Kind{Duplicated}},
		{"it has another sequence", func(s *scene) { s.left[user][0].sequence += 1000 }, []Kind{Duplicated, Reordered}},
		{"it was not sent", func(s *scene) { s.left[user][0].ref.Call = 1000 }, []Kind{Unknown, Lost}},
		{"it was for another user", func(s *scene) { s.left[user+1] = append(s.left[user+1], s.remove()) }, []Kind{Unknown, Lost, Reordered}},
		{"it was refused", func(s *scene) { s.file.Append(lineRefused, utoa(s.left[user][0].ref.Call), "503") }, []Kind{Unknown}},
		{"an invalid response", func(s *scene) { s.file.Append(lineFault, "call 1 was answered with 500") }, []Kind{Fault}},
		{"Django lacks one", func(s *scene) { s.stored = s.stored[1:] }, []Kind{Lost}},
		{"Django has one twice", func(s *scene) { s.stored = append(s.stored, s.stored[0]) }, []Kind{Duplicated, Reordered}},
		{"Django has one under another id", func(s *scene) {
			one := s.stored[0]
			one.m.id = "other"
			s.stored = append(s.stored, one)
		}, []Kind{Duplicated, Reordered}},
		{"Django got a conversation in another order", func(s *scene) { slices.Reverse(s.stored) }, []Kind{Reordered}},
		{"its messages had errors", func(s *scene) {
			slices.Reverse(s.stored)
			for _, line := range s.stored {
				s.lines = append(s.lines, []string{lineErred, line.m.id})
			}
		}, nil},
		{"a dead letter that was not refused", func(s *scene) { s.dead = append(s.dead, s.stored[0].m) }, []Kind{Lost}},
		{"Django got a foreign message", func(s *scene) { s.lines = append(s.lines, []string{lineForeign, "text"}) }, []Kind{Unknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			c.spoil(s)
			wantOnly(t, s.judge(), c.want...)
		})
	}
}

func TestJudgeOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{batch, broadcast} {
		s := newScene(t)
		c := s.callOf(k)
		a := answered{sequence: s.last + 1}
		for i := range c.messages {
			a.ids = append(a.ids, "01a20b45-1895-76bd-b871-3ccb78a69e"+strconv.Itoa(10+i))
		}
		s.place(&c, a)
		v := s.judge()
		wantOnly(t, v)
		if v.Open != len(c.items()) {
			t.Errorf("%d of unknown outcome, want %d", v.Open, len(c.items()))
		}

		s = newScene(t) // the same without one of its messages
		s.place(&c, a)
		it := c.items()[0]
		s.left[it.user] = slices.DeleteFunc(s.left[it.user], func(m received) bool { return m.ref == it.Ref })
		s.stored = slices.DeleteFunc(s.stored, func(l storedLine) bool { return l.m.ref == it.Ref && l.user == it.user })
		wantOnly(t, s.judge(), Lost)
	}
}

// wantOnly checks that there are findings of exactly these kinds.
func wantOnly(t *testing.T, v *Verdict, want ...Kind) {
	t.Helper()
	for _, f := range v.Findings {
		if !slices.Contains(want, f.Kind) {
			t.Errorf("%s: %s", f.Kind, f.What)
		}
	}
	for _, k := range want {
		if v.Count(k) == 0 {
			t.Errorf("no finding of the kind %s", k)
		}
	}
}
