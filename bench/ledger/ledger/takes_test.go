package ledger

import (
	"slices"
	"testing"
	"time"
)

func TestJudgeOfTakes(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for _, c := range []struct {
		name  string
		spoil func(s *scene)
		want  []Kind
	}{
		{"taken permanently, and gone", func(s *scene) {
			s.take(1, "plain", ago(0))
			s.remove()
		}, nil},
		{"taken permanently, and present again", func(s *scene) { s.take(1, "plain", ago(0)) }, []Kind{Duplicated}},
		{"taken permanently right before a crash", func(s *scene) {
			s.take(1, "plain", ago(time.Second))
			s.cut()
		}, nil},
		{"taken permanently long before a crash", func(s *scene) {
			s.take(1, "plain", ago(time.Minute))
			s.cut()
		}, []Kind{Duplicated}},
		{"an interrupted take may have had one", func(s *scene) {
			s.announce(1, "plain")
			s.remove()
		}, nil},
		{"but not two", func(s *scene) {
			s.announce(1, "plain")
			s.remove()
			s.remove()
		}, []Kind{Lost}},
		{"not one that was never sent", func(s *scene) {
			s.announce(1, "plain")
			s.file.Append(lineNothing, "1")
			s.remove()
		}, []Kind{Lost}},
		{"not one under a lease", func(s *scene) {
			s.announce(1, "leased")
			s.remove()
		}, []Kind{Lost}},
		{"leased, and not visible", func(s *scene) {
			s.take(1, "leased", ago(0))
			s.remove()
		}, nil},
		{"leased, and present again", func(s *scene) { s.take(1, "leased", ago(0)) }, []Kind{Duplicated}},
		{"leased, and missing after a restart", func(s *scene) {
			s.take(1, "leased", ago(0))
			s.file.Append(lineRestart, now())
			s.remove()
		}, []Kind{Lost}},
		{"leased, and present again after a restart", func(s *scene) {
			s.take(1, "leased", ago(0))
			s.file.Append(lineRestart, now())
		}, nil},
		{"acknowledged, and gone", func(s *scene) {
			s.take(1, "leased", ago(0))
			s.end(1, "acked")
			s.file.Append(lineRestart, now())
			s.remove()
		}, nil},
		{"acknowledged, and present again after a crash", func(s *scene) {
			s.take(1, "leased", ago(0))
			s.end(1, "acked")
			s.cut()
		}, []Kind{Duplicated}},
		{"acknowledged, with unknown outcome", func(s *scene) {
			s.take(1, "leased", ago(0))
			s.end(1, "")
			s.cut()
		}, nil},
		{"taken twice on one connection, out of order", func(s *scene) {
			first := s.remove()
			next := slices.IndexFunc(s.left[user], func(m received) bool { return s.priorities[m.ref] == s.priorities[first.ref] })
			for number, m := range []received{s.left[user][next], first} {
				s.left[user] = slices.Concat([]received{m}, slices.DeleteFunc(s.left[user], func(other received) bool { return m == other }))
				s.take(1+number, "plain", ago(0))
				s.remove()
			}
		}, []Kind{Reordered}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			c.spoil(s)
			wantOnly(t, s.judge(), c.want...)
		})
	}
}
