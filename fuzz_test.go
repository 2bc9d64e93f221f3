package messaging_test

import (
	"bytes"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/internal/hostiletest"
)

// valid fails the test if the draft is not written as valid JSON.
func valid(t *testing.T, d *messaging.Draft) {
	t.Helper()
	m := messaging.Message{Defaulted: d.Defaulted, Body: d.Body, Priority: d.Priority}
	if out := m.AppendJSON(nil); !jsontext.Value(out).IsValid() {
		t.Errorf("%q became %q", d.Raw, out)
	}
}

// FuzzBatches checks that a batch is read the same in reads of any size, and that a
// line is accepted if and only if it is accepted as a send.
func FuzzBatches(f *testing.F) {
	for _, body := range hostiletest.Bodies(f, "testdata/hostile", "json.txtar") {
		f.Add(body)
		f.Add([]byte(batchOf(string(body), whole)))
		f.Add(append(append(body, '\n'), whole...))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		drafts, err := readAll(messaging.NewBatchReader(bytes.NewReader(body)))
		hostiletest.NoInternal(t, "batch", err)
		for i := range drafts {
			valid(t, &drafts[i])
		}
		again, errAgain := readAll(messaging.NewBatchReader(iotest.HalfReader(bytes.NewReader(body))))
		if len(again) != len(drafts) || (err == nil) != (errAgain == nil) {
			t.Errorf("%d messages (%v), and in pieces %d (%v)", len(drafts), err, len(again), errAgain)
		}
		lines, err := readAll(messaging.NewLinesReader(bytes.NewReader(body)))
		hostiletest.NoInternal(t, "lines", err)
		for i := range lines {
			valid(t, &lines[i])
		}
		d, sendErr := messaging.ParseDraft(bytes.Clone(body))
		if one := !bytes.ContainsAny(body, "\r\n"); one && d.Key == "" && len(bytes.TrimSpace(body)) > 0 && (sendErr == nil) != (err == nil) {
			t.Errorf("as a send %v, as a line %v", sendErr, err)
		}
	})
}

// FuzzBroadcasts checks that an accepted broadcast has at least one receiver, and that
// each chunk of its receivers can be decoded.
func FuzzBroadcasts(f *testing.F) {
	for _, body := range hostiletest.Bodies(f, "testdata/hostile", "json.txtar") {
		f.Add(body)
	}
	f.Add(broadcastTo([]string{"1", `"a"`, "1"}))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := messaging.ParseBroadcast(body)
		hostiletest.NoInternal(t, "broadcast", err)
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
					t.Errorf("%q is empty, or a receiver twice", r.User)
				}
				seen[r.User] = true
			}
		}
		if len(seen) == 0 || len(seen) != b.Receivers.Len() {
			t.Errorf("%d users, Len is %d", len(seen), b.Receivers.Len())
		}
	})
}
