package enginetest

import (
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// timeCases are about delay and expiry.
var timeCases = []testCase{
	{name: "a delayed message is enqueued on time and in order, across a restart", config: Config{Retention: 30 * 24 * time.Hour}, test: func(r *run) {
		r.send("a", "later", messaging.Normal, `"delay_seconds":60`)
		r.send("a", "now", messaging.Normal)
		r.send("a", "at", messaging.High, fmt.Sprintf(`"deliver_at":%q`, time.Now().Add(90*time.Second).Format(time.RFC3339)))
		r.send("a", "past", messaging.Normal, `"deliver_at":"1999-01-01T00:00:00Z"`)
		r.wantPeek("a", "now", "past")
		r.wantSize("a", messaging.Counts{Normal: 2, Delayed: 2})
		pass(30 * time.Second)
		r.rig.Restart(true)
		pass(30*time.Second - time.Millisecond)
		r.wantPeek("a", "now", "past")
		pass(100 * time.Millisecond)
		r.wantPeek("a", "later", "now", "past")
		pass(30 * time.Second)
		r.wantPeek("a", "at", "later", "now", "past")
	}},
	{name: "a message that is due too late is refused", config: Config{Retention: 3 * 24 * time.Hour}, test: func(r *run) {
		for _, fields := range []string{
			`,"delay_seconds":172801`, `,"deliver_at":"2000-01-04T00:00:00Z"`,
			`,"delay_seconds":60,"ttl_seconds":60`, `,"delay_seconds":60,"expires_at":"2000-01-01T00:00:30Z"`,
		} {
			_, err := r.engine().Send(message(r, "a", "x", messaging.Normal, fields), messaging.IdempotencyKey{})
			if messaging.CodeOf(err) != messaging.CodeInvalidField {
				r.Errorf("%s: %v", fields, err)
			}
			drafts := []messaging.Draft{message(r, "a", "y", messaging.Normal, ""), message(r, "a", "x", messaging.Normal, fields)}
			if _, err = r.engine().SendAll(drafts, messaging.IdempotencyKey{}); err == nil {
				r.Errorf("%s: the batch was accepted", fields)
			}
		}
		r.wantSize("a", messaging.Counts{})
		r.send("a", "just in time", messaging.Normal, `"delay_seconds":172800`)
	}},
	{name: "an expired message is not delivered", test: func(r *run) {
		r.send("a", "1", messaging.Normal, `"ttl_seconds":10`)
		r.send("a", "2", messaging.Normal, `"ttl_seconds":20`)
		r.send("a", "3", messaging.Normal, `"delay_seconds":5`, `"ttl_seconds":15`)
		pass(10 * time.Second)
		r.wantPeek("a", "2", "3")
		r.rig.Restart(true)
		pass(5 * time.Second)
		r.wantTake("a", 10, 0, "2")
		r.wantSize("a", messaging.Counts{})
	}},
	{name: "a message that expires under a lease may be acknowledged, and does not come back", test: func(r *run) {
		r.send("a", "1", messaging.Normal, `"ttl_seconds":10`)
		r.send("a", "2", messaging.Normal, `"ttl_seconds":10`)
		got := r.take("a", 2, time.Minute)
		pass(20 * time.Second)
		outcomes, err := r.engine().Acknowledge("a", receipts(got[:1]))
		r.wantOutcomes(outcomes, err, messaging.Acked)
		pass(time.Minute)
		r.wantSize("a", messaging.Counts{})
	}},
}
