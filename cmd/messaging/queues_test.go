package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// messages returns the messages of a response, each as its members.
func messages(answer map[string]any) (list []map[string]any) {
	found, _ := answer["messages"].([]any)
	for _, m := range found {
		members, _ := m.(map[string]any)
		list = append(list, members)
	}
	return list
}

func textsOf(answer map[string]any) (list []string) {
	for _, m := range messages(answer) {
		list = append(list, fmt.Sprint(m["text"]))
	}
	return list
}

// results returns the results of a call with receipts.
func results(answer map[string]any) (list []string) {
	found, _ := answer["results"].([]any)
	for _, r := range found {
		members, _ := r.(map[string]any)
		list = append(list, fmt.Sprint(members["result"]))
	}
	return list
}

func receiptsOf(answer map[string]any) string {
	var list []string
	for _, m := range messages(answer) {
		list = append(list, fmt.Sprintf("%q", m["receipt"]))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// TestLeasesBatchesAndKeysSurviveAKill checks everything that must survive a kill -9.
func TestLeasesBatchesAndKeysSurviveAKill(t *testing.T) {
	s := startService(t)
	status, first := s.post("/api/messages/batch", `{"messages":[`+
		`{"conversation_id":1,"sender_id":2,"receiver_id":789,"text":"a"},`+
		`{"conversation_id":1,"sender_id":2,"receiver_id":789,"text":"b","priority":"high"},`+
		`{"conversation_id":1,"sender_id":2,"receiver_id":789,"text":"later","delay_seconds":3}]}`)
	if status != http.StatusOK || first["accepted"] != 3.0 {
		t.Fatalf("batch: %d %v", status, first)
	}
	const keyed = `{"conversation_id":1,"sender_id":2,"receiver_id":790,"text":"once","idempotency_key":"k"}`
	status, once := s.post("/api/messages/send", keyed)
	if status != http.StatusOK || once["duplicate"] != nil {
		t.Fatalf("send: %d %v", status, once)
	}
	_, leased := s.get("/api/messages/queue/789?lease=600")
	if got := textsOf(leased); !slices.Equal(got, []string{"b", "a"}) {
		t.Fatalf("leased %v", got)
	}
	status, acked := s.post("/api/messages/ack", fmt.Sprintf(`{"user_id":789,"receipts":[%q]}`, messages(leased)[0]["receipt"]))
	if status != http.StatusOK || !slices.Equal(results(acked), []string{"acked"}) {
		t.Fatalf("ack: %d %v", status, acked)
	}

	s.kill() // as kill -9
	s.start(t)

	_, size := s.get("/api/messages/queue/789/size")
	if size["normal"] != 1.0 || size["high"] != 0.0 || size["leased"] != 0.0 || size["delayed"] != 1.0 {
		t.Errorf("size %v", size)
	}
	_, late := s.post("/api/messages/ack", `{"user_id":789,"receipts":`+receiptsOf(leased)+`}`)
	if got := results(late); !slices.Equal(got, []string{"expired", "expired"}) {
		t.Errorf("receipts of before the kill are %v", got)
	}
	_, again := s.get("/api/messages/queue/789?lease=600")
	if got := messages(again); len(got) != 1 || got[0]["text"] != "a" || got[0]["deliveries"] != 2.0 {
		t.Errorf("leased again: %v", again)
	}
	status, twin := s.post("/api/messages/send", keyed)
	if status != http.StatusOK || twin["duplicate"] != true || twin["id"] != once["id"] || twin["sequence"] != once["sequence"] {
		t.Errorf("the same again: %d %v, first %v", status, twin, once)
	}
	if status, other := s.post("/api/messages/send", strings.Replace(keyed, "once", "twice", 1)); status != http.StatusConflict || other["code"] != "idempotency_conflict" {
		t.Errorf("another body: %d %v", status, other)
	}
	_, due := s.get("/api/messages/queue/789?wait=10")
	if got := messages(due); len(got) != 1 || got[0]["text"] != "later" || got[0]["deliver_at"] == nil {
		t.Errorf("waited for: %v", due)
	}
}

// TestLongPoll waits over HTTP: longer than REQUEST_TIMEOUT, beside a client that
// disconnects, and until the service stops.
func TestLongPoll(t *testing.T) {
	s := startService(t, "REQUEST_TIMEOUT=500ms")
	began := time.Now()
	status, answer := s.get("/api/messages/queue/1?wait=2")
	if took := time.Since(began); status != http.StatusOK || answer["count"] != 0.0 || took < 1900*time.Millisecond {
		t.Errorf("%d %v after %s, want none after 2 s", status, answer, took)
	}

	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/messages/queue/1?wait=30", http.NoBody)
		if err == nil {
			var response *http.Response
			if response, err = http.DefaultClient.Do(request); err == nil {
				err = response.Body.Close()
			}
		}
		left <- err
	}()
	s.waitReaders(t, 1)
	stayed := make(chan []string, 1)
	go func() {
		_, answer := s.get("/api/messages/queue/1?wait=10")
		stayed <- textsOf(answer)
	}()
	s.waitReaders(t, 2)
	leave()
	<-left
	s.waitReaders(t, 1)
	status, answer = s.post("/api/messages/send", `{"conversation_id":1,"sender_id":2,"receiver_id":1,"text":"x"}`)
	if status != http.StatusOK {
		t.Fatal(answer)
	}
	if got := <-stayed; !slices.Equal(got, []string{"x"}) {
		t.Errorf("the remaining reader got %v", got)
	}

	waited := make(chan int, 1)
	go func() {
		status, _ := s.get("/api/messages/queue/1?wait=15")
		waited <- status
	}()
	s.waitReaders(t, 1)
	began = time.Now()
	if code := s.terminate(); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("exit status %d after %s", code, time.Since(began))
	}
	if status := <-waited; status != http.StatusOK {
		t.Errorf("the reader that waited during the stop got %d", status)
	}
}

func (s *service) waitReaders(t *testing.T, want float64) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("%v readers wait", want), func() bool {
		_, stats := s.get("/api/stats")
		return stats["waiting_readers"] == want
	})
}

// TestUndeliverableMessagesAreRedriven follows an unacknowledged message to its dead letter
// and back to its queue, over HTTP and with the command line.
func TestUndeliverableMessagesAreRedriven(t *testing.T) {
	s := startService(t, "QUEUE_MAX_DELIVERIES=2")
	id := s.send(t, 1, "poison")
	for range 2 {
		_, leased := s.get("/api/messages/queue/789?lease=600")
		if status, answer := s.post("/api/messages/nack", `{"user_id":789,"receipts":`+receiptsOf(leased)+`}`); status != http.StatusOK || !slices.Equal(results(answer), []string{"nacked"}) {
			t.Fatalf("nack: %d %v", status, answer)
		}
	}
	eventually(t, 10*time.Second, "it is a dead letter", func() bool {
		status, _ := s.get("/api/dead-letters/undeliverable-" + id)
		return status == http.StatusOK
	})
	_, size := s.get("/api/messages/queue/789/size")
	if size["total"] != 0.0 {
		t.Errorf("its queue has %v", size)
	}
	s.kill()
	s.start(t)
	env := []string{"MESSAGING_URL=" + s.url}
	if status, out, errs := messaging(t, env, "dead-letters", "redrive", "--kind", "undeliverable", "--all", "--follow"); status != 0 || !strings.Contains(out, "1 of 1, done") {
		t.Errorf("redrive: %d %s%s", status, out, errs)
	}
	_, leased := s.get("/api/messages/queue/789?lease=600")
	if got := messages(leased); len(got) != 1 || got[0]["id"] != id || got[0]["deliveries"] != 1.0 {
		t.Errorf("after the redrive: %v", leased)
	}
	if _, list := s.get("/api/dead-letters"); list["total"] != 0.0 {
		t.Errorf("dead letters are left: %v", list)
	}
}

// TestOneQueueIsBounded: the leased messages of one queue are bounded, and a message that
// its reader always nacks does not block the others.
func TestOneQueueIsBounded(t *testing.T) {
	s := startService(t, "QUEUE_MAX_LEASED=2", "QUEUE_RETRY_BACKOFF=5m")
	for _, text := range []string{"poison", "poison", "good"} {
		s.send(t, 1, text)
	}
	_, leased := s.get("/api/messages/queue/789?lease=600&max_count=3")
	if got := messages(leased); len(got) != 2 {
		t.Fatalf("%d messages are leased, want 2", len(got))
	}
	if status, answer := s.get("/api/messages/queue/789?lease=600"); status != http.StatusTooManyRequests || answer["code"] != "too_many_requests" || !strings.Contains(fmt.Sprint(answer["message"]), "QUEUE_MAX_LEASED") {
		t.Errorf("a take past the bound: %d %v", status, answer)
	}
	for range 3 {
		if status, answer := s.post("/api/messages/nack", `{"user_id":789,"receipts":`+receiptsOf(leased)+`}`); status != http.StatusOK || results(answer)[0] != "nacked" {
			t.Fatalf("nack: %d %v", status, answer)
		}
		_, leased = s.get("/api/messages/queue/789?lease=600")
	}
	if got := messages(leased); len(got) != 1 || got[0]["text"] != "good" {
		t.Errorf("after three deliveries of the first two: %v", leased)
	}
	s.kill() // the pause survives, leases do not
	s.start(t)
	if _, size := s.get("/api/messages/queue/789/size"); size["delayed"] != 2.0 || size["normal"] != 1.0 {
		t.Errorf("after a kill: %v", size)
	}
}

// TestRedriveAndReplayIntoARealDjango fixes the cause of a dead letter and redrives it. Then
// it deletes Django's rows and replays them: they have the same ids as before.
func TestRedriveAndReplayIntoARealDjango(t *testing.T) {
	d := startDjango(t)
	s := startService(t, "DJANGO_API_URL="+d.url(), "PERSIST_LINGER=20ms", "PERSIST_MAX_BACKOFF=200ms")
	env := []string{"MESSAGING_URL=" + s.url}
	lost := s.send(t, 4242, "early")
	for i := range 20 {
		s.send(t, 7, fmt.Sprint(i))
	}
	eventually(t, 20*time.Second, "there is a dead letter", func() bool {
		status, _ := s.get("/api/dead-letters/refused-" + lost)
		return status == http.StatusOK
	})
	d.shell(t, "from chat.models import Conversation; Conversation.objects.create(id=4242)")
	status, out, errs := messaging(t, env, "dead-letters", "redrive", "refused-"+lost, "--follow")
	if status != 0 || !strings.Contains(out, "1 of 1, done") {
		t.Fatalf("redrive: %d %s%s", status, out, errs)
	}
	before, err := d.rows()
	if err != nil || len(before) != 21 {
		t.Fatalf("%d rows (%v), want 21", len(before), err)
	}
	d.shell(t, "from chat.models import Message; Message.objects.all().delete()")
	status, out, errs = messaging(t, env, "replay", "--from-sequence", "1", "--rate", "500", "--follow")
	if status != 0 || !strings.Contains(out, "21 of 21, done") {
		t.Fatalf("replay: %d %s%s", status, out, errs)
	}
	after, err := d.rows()
	if err != nil {
		t.Fatal(err)
	}
	ids := func(rows []row) (list []string) {
		for _, r := range rows {
			list = append(list, r.UUID)
		}
		slices.Sort(list)
		return list
	}
	if !slices.Equal(ids(before), ids(after)) {
		t.Errorf("ids after the replay %v, before %v", ids(after), ids(before))
	}
	if _, list := s.get("/api/jobs"); list["count"] != 2.0 {
		t.Errorf("jobs %v", list)
	}
}

func TestVerbsOfQueues(t *testing.T) {
	s := startService(t)
	env := []string{"MESSAGING_URL=" + s.url}
	run := func(want int, part string, args ...string) string {
		t.Helper()
		status, out, errs := messaging(t, env, args...)
		if status != want || !strings.Contains(out+errs, part) {
			t.Fatalf("%v: status %d, %s%s; want %d with %q", args, status, out, errs, want, part)
		}
		return out
	}
	file := filepath.Join(t.TempDir(), "messages.ndjson")
	line := `{"conversation_id":1,"sender_id":2,"receiver_id":7,"text":"from a file"}` + "\n"
	if err := os.WriteFile(file, []byte(line+line), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, "queued 2 messages at 1 to 2", "batch", file)
	run(0, "queued 2 messages at 3 to 4", "batch", file, "--idempotency-key", "k")
	run(0, "queued 2 messages at 3 to 4 (duplicate", "batch", file, "--idempotency-key", "k")
	run(0, `"accepted": 2`, "batch", file, "--json")
	run(2, "it does not exist", "batch", file+"x")
	if err := os.WriteFile(file, []byte(line+"{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(1, "message 1, counted from 0", "batch", file)
	run(0, "for 3 users", "broadcast", "hello all", "7", "8", "u-9", "--priority", "high", "--idempotency-key", "b")
	run(0, "(duplicate", "broadcast", "hello all", "7", "8", "u-9", "--priority", "high", "--idempotency-key", "b")
	run(0, "queued", "send", "7", "later", "--delay", "1h", "--ttl", "2h", "--idempotency-key", "s")
	run(0, "(duplicate", "send", "7", "later", "--delay", "1h", "--ttl", "2h", "--idempotency-key", "s")
	run(0, "1     6       0    0       1        8", "size", "7")
	out := run(0, "receipt", "take", "7", "-n", "2", "--lease", "60", "--json")
	var taken struct{ Messages []struct{ Receipt string } }
	if err := json.Unmarshal([]byte(out), &taken); err != nil || len(taken.Messages) != 2 {
		t.Fatalf("%v %s", err, out)
	}
	a, b := taken.Messages[0].Receipt, taken.Messages[1].Receipt
	run(0, "extended", "extend", "7", a, "--lease", "2m")
	run(0, "acked", "ack", "7", a)
	run(0, "nacked", "nack", "7", b, "--delay", "90s")
	run(1, "expired", "ack", "7", b)
	run(1, "unknown", "ack", "7", "--", "x")
	run(0, "DELIVERIES", "take", "7", "-n", "1", "--lease", "60")
	run(0, "from a file", "peek", "7")
	began := time.Now()
	run(0, "SEQUENCE", "take", "nobody", "--wait", "1")
	if time.Since(began) < time.Second {
		t.Error("it did not wait")
	}
	run(0, `"total": 7`, "size", "7", "--json")
	run(0, "cleared 7 messages\n", "clear", "7")
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, "queued 1 message at ", "batch", file)
	run(0, "for 1 user\n", "broadcast", "hello one", "8")
	run(0, "cleared 1 message\n", "clear", "7")
	run(0, "queued", "send", "7", "later", "--delay", "60", "--ttl", "3600")
	run(0, "0     0       0    0       1        1", "size", "7")
	run(0, "cleared 1 message\n", "clear", "7")
	run(2, "--lease", "take", "7", "--lease=-5")
	run(2, "--lease", "take", "7", "--lease=0")
	run(2, "--wait", "take", "7", "--wait=61")
	run(2, "--delay", "send", "7", "x", "--delay=-5s")
	run(2, "--ttl", "send", "7", "x", "--ttl=-5s")
	run(1, "rate", "replay", "--from-sequence", "1", "--rate=-1")
	run(1, "DJANGO_API_URL is off", "replay", "--from-sequence", "1")
	run(1, "from_sequence", "replay")
	run(1, "one of ids, reason and all", "dead-letters", "redrive")
	run(0, "started job", "dead-letters", "redrive", "--all")
	run(0, "redrive", "jobs")
	run(1, "no such job", "jobs", "show", "x")
	run(1, "no such job", "jobs", "cancel", "x")
	run(1, "not_found", "dead-letters", "drop", "refused-01a20b02-36c5-74aa-b0e6-49477247185c")
	for _, verb := range [][]string{
		{"batch"},
		{"broadcast"},
		{"ack"},
		{"nack"},
		{"extend"},
		{"size"},
		{"clear"},
		{"replay"},
		{"jobs"},
		{"jobs", "list"},
		{"jobs", "show"},
		{"jobs", "cancel"},
		{"dead-letters", "redrive"},
		{"dead-letters", "drop"},
	} {
		run(0, "Usage: messaging "+verb[0], append(verb, "--help")...)
	}
}
