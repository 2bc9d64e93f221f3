package engine_test

import (
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// A claim of a job that has ended has no effect: a message that the backend refuses again
// is listed with its new reason.
func TestClaimOfAnEndedJobKeepsNoOldReason(t *testing.T) {
	for name, end := range map[string]func(d *engine.DeadLetters) error{
		"ended": func(d *engine.DeadLetters) error {
			return d.SaveProgress(messaging.Progress{Job: "j", Record: []byte("{}"), Ended: true})
		},
		"forgotten": func(d *engine.DeadLetters) error { return d.ForgetJob("j") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, engine.Config{})
			d := r.engine.DeadLetters()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			r.send("u", "x", messaging.Normal)
			page, _, err := r.log.Read(messaging.Position{Sequence: 1}, 1, 1)
			must(err)
			refuse := func(reason string) {
				t.Helper()
				must(d.AddDeadLetters([]messaging.DeadLetter{{
					Kind: messaging.Refused, Reason: reason, Attempts: 1, FailedAt: time.Now(), Recipients: 1, Message: page[0],
				}}, messaging.Progress{}))
			}
			wantReason := func(reason string) {
				t.Helper()
				listed, err := d.ListDeadLetters(messaging.DeadLetterFilter{Limit: 10})
				if must(err); len(listed.DeadLetters) != 1 || listed.DeadLetters[0].Reason != reason {
					t.Errorf("the dead letters are %+v, want one for the reason %q", listed.DeadLetters, reason)
				}
			}
			refuse("old")
			must(d.SaveProgress(messaging.Progress{Job: "j", Record: []byte("{}")}))
			_, err = d.ClaimDeadLetters("j", []messaging.DeadRecipient{{Kind: messaging.Refused, Reason: "old", Message: page[0]}})
			must(err)
			refuse("while the job runs")
			wantReason("old")
			must(end(d))
			refuse("new")
			wantReason("new")
		})
	}
}
