package persist

import (
	"testing"

	"github.com/stayafrica/messaging"
)

func TestJobsCountOneMessageInTheSingular(t *testing.T) {
	var rec record
	rec.addFailures([]string{"no user"})
	if want := "1 message stays a dead letter; the last one: no user"; rec.Error != want {
		t.Errorf("%q, want %q", rec.Error, want)
	}
	rec.addFailures([]string{"no room"})
	if want := "2 messages stay dead letters; the last one: no room"; rec.Error != want {
		t.Errorf("%q, want %q", rec.Error, want)
	}
	for _, c := range []struct {
		refused, gone uint64
		want          string
	}{
		{0, 0, ""},
		{1, 1, "1 message was refused: see the dead letters; 1 sequence was trimmed by retention before the replay read it"},
		{2, 2, "2 messages were refused: see the dead letters; 2 sequences were trimmed by retention before the replay read them"},
	} {
		r := record{Refused: c.refused, Replay: &messaging.ReplayRequest{}}
		s := &replayProgress{drain: &Drain{}, goneBefore: c.gone}
		s.advance(&r, messaging.Progress{Position: &messaging.Position{}})
		if r.Error != c.want {
			t.Errorf("%q, want %q", r.Error, c.want)
		}
	}
}
