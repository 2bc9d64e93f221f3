package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// manyMessages is more than one request returns.
const manyMessages = 2500

// fillQueue sends many messages to a user.
func fillQueue(t *testing.T, env []string, user string) {
	t.Helper()
	var lines strings.Builder
	for i := range manyMessages {
		fmt.Fprintf(&lines, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":"%d"}`+"\n", user, i)
	}
	file := filepath.Join(t.TempDir(), "messages.ndjson")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := messaging(t, env, "batch", file); status != 0 || !strings.HasPrefix(out, "queued 2500 messages at ") {
		t.Fatalf("status %d, %s%s", status, out, errs)
	}
}

// read is the --json output of a queue.
type read struct {
	Status   string
	UserID   string `json:"user_id"`
	Count    int
	Messages []struct{ Text, Receipt string }
}

// readQueue takes or peeks, and checks the order of the messages.
func readQueue(t *testing.T, env []string, status, count int, args ...string) (r read, errs string) {
	t.Helper()
	got, out, errs := messaging(t, env, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: status %d, %v: %s", args, got, err, errs)
	}
	if got != status || r.Status != "success" || r.UserID != args[1] || r.Count != count || len(r.Messages) != count {
		t.Fatalf("%v: status %d, %q of %q, count %d, %d messages: %s", args, got, r.Status, r.UserID, r.Count, len(r.Messages), errs)
	}
	for i, m := range r.Messages {
		if m.Text != fmt.Sprint(i) {
			t.Fatalf("%v: message %d is %q", args, i, m.Text)
		}
	}
	return r, errs
}

func TestTakeReadsMoreThanOneRequestGives(t *testing.T) {
	s := startService(t)
	env := []string{"MESSAGING_URL=" + s.url}
	fillQueue(t, env, "a")
	if _, errs := readQueue(t, env, 0, 1000, "peek", "a", "-n", "2500"); errs != "messaging: peek shows the first 1000 messages at most (see messaging size a)\n" {
		t.Errorf("peek: %s", errs)
	}
	readQueue(t, env, 0, 2500, "take", "a", "-n", "2500")
	readQueue(t, env, 0, 0, "take", "a", "-n", "2500")

	fillQueue(t, env, "b")
	status, out, errs := messaging(t, env, "take", "b", "-n", "5000", "--wait", "1")
	if lines := strings.Count(out, "\n"); status != 0 || lines != 1+manyMessages || strings.Count(out, "SEQUENCE") != 1 {
		t.Errorf("status %d, %d lines: %s", status, lines, errs)
	}

	fillQueue(t, env, "c")
	receipts := make(map[string]bool)
	leased, _ := readQueue(t, env, 0, 2500, "take", "c", "-n", "9999", "--lease", "1m")
	for _, m := range leased.Messages {
		receipts[m.Receipt] = true
	}
	if _, size := s.get("/api/messages/queue/c/size"); len(receipts) != manyMessages || size["leased"] != 2500.0 {
		t.Errorf("%d receipts, %v", len(receipts), size)
	}
}

// Taken messages are printed even if a later request is refused.
func TestTakePrintsWhatItHasBeforeARefusal(t *testing.T) {
	s := startService(t, "QUEUE_MAX_LEASED=1500")
	env := []string{"MESSAGING_URL=" + s.url}
	fillQueue(t, env, "a")
	if _, errs := readQueue(t, env, 1, 1500, "take", "a", "-n", "2500", "--lease", "60"); !strings.Contains(errs, "QUEUE_MAX_LEASED") {
		t.Errorf("the error is %s", errs)
	}
}

// A signal ends a take after the page in flight, which is printed too.
func TestTakePrintsWhatItHasWhenItIsInterrupted(t *testing.T) {
	var requests atomic.Int64
	running := make(chan *os.Process, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := requests.Add(1)
		if n == 2 {
			_ = (<-running).Signal(os.Interrupt)
		}
		fmt.Fprintf(w, `{"status":"success","user_id":"a","messages":[{"text":"%d"}],"count":1}`, n-1)
	}))
	t.Cleanup(server.Close)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "take", "a", "-n", "1000000", "--json", "--url", server.URL)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running <- cmd.Process
	_ = cmd.Wait()
	var r read
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil || r.Count < 2 || int64(r.Count) != requests.Load() || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("status %d, %d of %d messages, %v: %.200s%s", cmd.ProcessState.ExitCode(), r.Count, requests.Load(), err, out.String(), errs.String())
	}
}
