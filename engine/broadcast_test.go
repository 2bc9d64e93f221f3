package engine_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestBroadcastReachesEachReceiverOnce(t *testing.T) {
	r := newRig(t, engine.Config{})
	b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"b"},"user_ids":[1,"1",2,"x",2]}`))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := r.engine.Broadcast(b, messaging.IdempotencyKey{})
	if err != nil || receipt.Recipients != 3 {
		t.Fatalf("recipients %d (%v), want 3", receipt.Recipients, err)
	}
	r.reopen()
	for user, form := range map[string]string{"1": `"receiver_id":1,`, "x": `"receiver_id":"x",`} {
		h, err := r.engine.Take(context.Background(), messaging.UserID(user), messaging.TakeOptions{Limit: 10})
		if err != nil || len(h.Messages) != 1 {
			t.Fatalf("user %s got %d messages (%v)", user, len(h.Messages), err)
		}
		m := h.Messages[0]
		if text := string(m.AppendJSON(nil)); !strings.Contains(text, form) {
			t.Errorf("user %s: %s does not have %s", user, text, form)
		}
		if want := messaging.CopyID(receipt.ID, messaging.UserID(user)); m.ID != want {
			t.Errorf("user %s: id %s, want %s", user, m.ID, want)
		}
		h.Finish(true)
	}
}

// largeBroadcast is a broadcast to more receivers than fit one commit.
func largeBroadcast(tb testing.TB, n int) messaging.Broadcast {
	tb.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"b"},"user_ids":[` + strings.Join(ids, ",") + `]}`))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestLargeBroadcastContinuesAfterARestartInOrder(t *testing.T) {
	r := newRig(t, engine.Config{})
	const n = 3*messaging.ReceiversPerChunk + 5
	if _, err := r.engine.Broadcast(largeBroadcast(t, n), messaging.IdempotencyKey{}); err != nil {
		t.Fatal(err)
	}
	r.send("7", "later", messaging.Normal) // the broadcast came first and is delivered first
	r.reopen()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.engine.Fanout(ctx) }()
	waitFor(t, func() bool { return r.log.Queued() == n+1 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.reopen() // nothing is enqueued twice
	wantTexts(t, r.take("7", 10), "b", "later")
	wantTexts(t, r.take(strconv.Itoa(n-1), 10), "b")
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 20 seconds")
		}
		time.Sleep(time.Millisecond)
	}
}
