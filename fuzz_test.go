package messaging_test

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
)

// hostileBodies gives the bodies of a file of the hostile corpus, as they stand
// there: what it repeats a million times is no seed.
func hostileBodies(f *testing.F, file string) (bodies [][]byte) {
	f.Helper()
	text, err := os.ReadFile("testdata/hostile/" + file)
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split(string(text), ".send --\n")[1:] {
		request, _, _ := strings.Cut(part, "\n-- ")
		_, body, _ := strings.Cut(request, "\n\n")
		if raw, err := strconv.Unquote(`"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(body) + `"`); err == nil {
			bodies = append(bodies, []byte(raw))
		}
	}
	if len(bodies) == 0 {
		f.Fatalf("%s has no bodies", file)
	}
	return bodies
}

// noInternal reports an error that a client cannot have made.
func noInternal(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && messaging.CodeOf(err) == messaging.CodeInternal {
		t.Errorf("%s: %v", what, err)
	}
}

// valid reports a draft that would not come out as JSON.
func valid(t *testing.T, d *messaging.Draft) {
	t.Helper()
	m := messaging.Message{Defaults: d.Defaults, Body: d.Body, Priority: d.Priority}
	if out := m.AppendJSON(nil); !jsontext.Value(out).IsValid() {
		t.Errorf("%q became %q", d.Raw, out)
	}
}

// FuzzBatches: however a batch arrives, it is read the same, and a line is taken
// exactly where it would be taken as a send.
func FuzzBatches(f *testing.F) {
	for _, body := range hostileBodies(f, "json.txtar") {
		f.Add(body)
		f.Add([]byte(batchOf(string(body), whole)))
		f.Add(append(append(body, '\n'), whole...))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		drafts, err := readAll(messaging.NewBatchReader(bytes.NewReader(body)))
		noInternal(t, "batch", err)
		for i := range drafts {
			valid(t, &drafts[i])
		}
		again, errAgain := readAll(messaging.NewBatchReader(iotest.HalfReader(bytes.NewReader(body))))
		if len(again) != len(drafts) || (err == nil) != (errAgain == nil) {
			t.Errorf("%d messages (%v), and in pieces %d (%v)", len(drafts), err, len(again), errAgain)
		}
		lines, err := readAll(messaging.NewLinesReader(bytes.NewReader(body)))
		noInternal(t, "lines", err)
		for i := range lines {
			valid(t, &lines[i])
		}
		d, sendErr := messaging.ParseDraft(bytes.Clone(body))
		if one := !bytes.ContainsAny(body, "\r\n"); one && d.Key == "" && len(bytes.TrimSpace(body)) > 0 && (sendErr == nil) != (err == nil) {
			t.Errorf("as a send %v, as a line %v", sendErr, err)
		}
	})
}

// FuzzBroadcasts: what is taken goes to at least one user, and each chunk of its
// receivers can be read.
func FuzzBroadcasts(f *testing.F) {
	for _, body := range hostileBodies(f, "json.txtar") {
		f.Add(body)
	}
	f.Add(broadcastTo([]string{"1", `"a"`, "1"}))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := messaging.ParseBroadcast(body)
		noInternal(t, "broadcast", err)
		if err != nil {
			return
		}
		valid(t, &b.Draft)
		seen := make(map[messaging.UserID]bool)
		for _, chunk := range b.Receivers.Chunks() {
			list, err := messaging.DecodeReceivers(chunk)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				if seen[r.User] || r.User == "" {
					t.Errorf("%q is named twice, or is nobody", r.User)
				}
				seen[r.User] = true
			}
		}
		if len(seen) == 0 || len(seen) != b.Receivers.Len() {
			t.Errorf("%d users, %d are counted", len(seen), b.Receivers.Len())
		}
	})
}

// FuzzOtherRequests: calls on leases, dead letters and replays. What is taken is
// within its bounds.
func FuzzOtherRequests(f *testing.F) {
	for _, body := range hostileBodies(f, "requests.txtar") {
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
			q, err := messaging.ParseReceipts(body, option)
			noInternal(t, "receipts", err)
			if err == nil && (q.User == "" || len(q.Receipts) == 0 || len(q.Receipts) > messaging.MaxReceipts ||
				q.Delay < 0 || q.Delay > messaging.MaxDelay || (option == "lease" && q.Lease < time.Second) || q.Lease > messaging.MaxLease) {
				t.Errorf("%q is taken as %+v", body, q)
			}
		}
		redrive, err := messaging.ParseRedrive(body)
		noInternal(t, "redrive", err)
		for _, id := range redrive.IDs {
			if err == nil && !messaging.ValidDeadLetterID(id) {
				t.Errorf("%q is taken with the id %q", body, id)
			}
		}
		replay, err := messaging.ParseReplay(body)
		noInternal(t, "replay", err)
		if err == nil && (replay.Rate < 0 || replay.Rate > messaging.MaxReplayRate || (replay.FromSequence == 0) == replay.FromTime.IsZero()) {
			t.Errorf("%q is taken as %+v", body, replay)
		}
	})
}
