package http

import (
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/internal/hostiletest"
)

// FuzzOtherRequests checks that accepted calls on leases, dead letters and replays are
// within their bounds.
func FuzzOtherRequests(f *testing.F) {
	for _, body := range hostiletest.Bodies(f, "../testdata/hostile", "requests.txtar") {
		f.Add(body)
	}
	const letter = "refused-01a20b45-1895-76bd-b871-3ccb78a69ece"
	for _, body := range []string{
		`{"all":true,"kind":"refused"}`, `{"reason":"x"}`, `{"ids":["` + letter + `"]}`,
		`{"from_time":"2026-01-02T03:04:05Z","to_sequence":9,"rate":10,"user_id":"a","conversation_id":5}`,
		`{"from_sequence":1,"to_time":"9999-12-31T23:59:59.999999999+23:59"}`, `{"user_id":1,"receipts":["a"],"lease":3600}`, `{"user_id":1,"receipts":["a"],"delay_seconds":0.5}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, option := range []string{"", "lease", "delay_seconds"} {
			q, err := parseReceipts(body, option)
			hostiletest.NoInternal(t, "receipts", err)
			if err == nil && (q.User == "" || len(q.Receipts) == 0 || len(q.Receipts) > messaging.MaxReceipts ||
				q.Delay < 0 || q.Delay > messaging.MaxDelay || (option == "lease" && q.Lease < time.Second) || q.Lease > messaging.MaxLease) {
				t.Errorf("%q is accepted as %+v", body, q)
			}
		}
		redrive, err := parseRedrive(body)
		hostiletest.NoInternal(t, "redrive", err)
		for _, id := range redrive.IDs {
			if err == nil && !messaging.ValidDeadLetterID(id) {
				t.Errorf("%q is accepted with the id %q", body, id)
			}
		}
		replay, err := parseReplay(body)
		hostiletest.NoInternal(t, "replay", err)
		if err == nil && (replay.Rate < 0 || replay.Rate > messaging.MaxReplayRate || (replay.FromSequence == 0) == replay.FromTime.IsZero()) {
			t.Errorf("%q is accepted as %+v", body, replay)
		}
	})
}
