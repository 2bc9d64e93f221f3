package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// storing is a backend that stores all messages.
type storing struct {
	url   string
	mu    sync.Mutex
	texts []string
}

func startStoring(t *testing.T) *storing {
	t.Helper()
	b := &storing{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *storing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch struct {
		Messages []struct{ Text string }
	}
	_ = json.NewDecoder(r.Body).Decode(&batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range batch.Messages {
		b.texts = append(b.texts, m.Text)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"persisted": len(batch.Messages), "errors": []any{}})
}

func (b *storing) stored() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.texts)
}

// wantStored waits until the backend has exactly these texts, in this order.
func (b *storing) wantStored(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, 10*time.Second, "the backend has all messages", func() bool { return len(b.stored()) >= len(want) })
	if got := b.stored(); !slices.Equal(got, want) {
		t.Errorf("the backend has %q, want %q", got, want)
	}
}

// with starts the service with additional settings.
func (s *service) with(t *testing.T, env ...string) {
	t.Helper()
	before := s.env
	s.env = append(slices.Clone(before), env...)
	s.start(t)
	s.env = before
}

// wantLog stops the service and looks for a text in its log. With an empty text, the log
// must not report waiting messages.
func (s *service) wantLog(t *testing.T, want string) {
	t.Helper()
	if status := s.terminate(); status != 0 {
		t.Errorf("it stopped with %d", status)
	}
	if want == "" && (strings.Contains(s.log.String(), "message wait") || strings.Contains(s.log.String(), "messages wait")) {
		t.Errorf("the log reports waiting messages:\n%s", s.log)
	}
	if !strings.Contains(s.log.String(), want) {
		t.Errorf("the log has no %q:\n%s", want, s.log)
	}
}

// wantDrain checks the state of the drain in the statistics, the command line and the
// metrics.
func (s *service) wantDrain(t *testing.T, state, shown, lag string) {
	t.Helper()
	_, stats := s.get("/api/stats")
	if stats["drain"] != state {
		t.Errorf("in /api/stats the drain is %v, want %s", stats["drain"], state)
	}
	_, out, _ := messaging(t, []string{"MESSAGING_URL=" + s.url}, "stats")
	if !regexp.MustCompile(`(?m)^drain  *` + regexp.QuoteMeta(shown) + `$`).MatchString(out) {
		t.Errorf("messaging stats does not print %q:\n%s", shown, out)
	}
	off := "0"
	if state == "off" {
		off = "1"
	}
	response, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	for _, want := range []string{"messaging_drain_off " + off, "messaging_drain_lag_messages " + lag} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("/metrics does not have %q", want)
		}
	}
	if age, _ := stats["drain_lag_seconds"].(float64); (age > 0) != (lag != "0") {
		t.Errorf("the oldest message that waits is %v s old", stats["drain_lag_seconds"])
	}
}

func TestAStartWithTheDrainOffKeepsWhatWaits(t *testing.T) {
	backend := startStoring(t)
	s := startService(t, "DJANGO_API_URL=http://127.0.0.1:1", "PERSIST_LINGER=0s")
	texts := []string{"1", "2", "3", "4", "5"}
	for _, text := range texts {
		s.send(t, 1, text)
	}
	eventually(t, 10*time.Second, "the drain waits", func() bool { _, stats := s.get("/api/stats"); return stats["drain"] == "waiting" })
	s.wantDrain(t, "waiting", "waiting (5 messages wait)", "5")
	s.wantLog(t, "")

	s.with(t, "DJANGO_API_URL=off")
	s.wantDrain(t, "off", "off (5 messages wait)", "5")
	s.wantLog(t, "the drain is off: 5 messages wait for DJANGO_API_URL, 0 were trimmed")

	s.with(t, "DJANGO_API_URL="+backend.url)
	backend.wantStored(t, texts...)
	eventually(t, 10*time.Second, "nothing waits", func() bool { _, stats := s.get("/api/stats"); return stats["drain_lag_messages"] == 0.0 })
	s.wantDrain(t, "running", "running", "0")
	s.wantLog(t, "5 messages wait, 0 were trimmed while the drain was off or by a full disk; the drain resumes at 1")

	s.with(t, "DJANGO_API_URL="+backend.url)
	s.wantLog(t, "")
	backend.wantStored(t, texts...)
}

func TestWhatIsSentWhileTheDrainIsOffWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *service)
	}{
		{"stopped", func(s *service) { s.terminate() }},
		{"killed at once", func(s *service) { s.kill() }},
		{"killed a little later", func(s *service) { time.Sleep(1200 * time.Millisecond); s.kill() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			backend := startStoring(t)
			s := startService(t, "PERSIST_LINGER=0s")
			s.wantDrain(t, "off", "off (0 messages wait)", "0")
			s.send(t, 1, "while off")
			s.wantDrain(t, "off", "off (1 message waits)", "1")
			c.end(s)
			s.env = append(s.env, "DJANGO_API_URL="+backend.url)
			s.start(t)
			s.send(t, 1, "while on")
			backend.wantStored(t, "while off", "while on")
		})
	}
}

func TestAStartSaysWhatWasTrimmedWhileTheDrainWasOff(t *testing.T) {
	backend := startStoring(t)
	s := startService(t, "PERSIST_LINGER=0s")
	s.wantLog(t, "")
	s.with(t, "MESSAGE_RETENTION_DAYS=0.00002") // under two seconds
	for range 3 {
		s.send(t, 1, "old")
	}
	eventually(t, 20*time.Second, "retention has trimmed", func() bool { _, stats := s.get("/api/stats"); return stats["drain_lag_messages"] == 0.0 })
	s.wantDrain(t, "off", "off (0 messages wait)", "0")
	s.wantLog(t, "")

	s.start(t)
	s.send(t, 1, "new")
	s.wantLog(t, "the drain is off: 0 messages wait for DJANGO_API_URL, 3 were trimmed")
	s.with(t, "DJANGO_API_URL="+backend.url)
	backend.wantStored(t, "new")
	s.wantLog(t, "1 message waits, 3 were trimmed while the drain was off or by a full disk; the drain resumes at 4")
	s.with(t, "DJANGO_API_URL="+backend.url)
	s.wantLog(t, "")
}

func TestAStartSaysOnceThatAllThatWaitedIsGone(t *testing.T) {
	backend := startStoring(t)
	s, dir := startOff(t)
	s.terminate()
	s.with(t, "MESSAGE_RETENTION_DAYS=0.00002") // under two seconds
	for range 3 {
		s.send(t, 1, "old")
	}
	eventually(t, 20*time.Second, "retention has trimmed", func() bool { _, stats := s.get("/api/stats"); return stats["drain_lag_messages"] == 0.0 })
	s.terminate()
	if got, want := skip(t, dir, "--to", "now"), (skipped{Position: 1, To: 4, End: 4, Gone: 3}); got != want {
		t.Errorf("a skip counts %+v, want %+v", got, want)
	}
	s.with(t, "DJANGO_API_URL="+backend.url)
	s.send(t, 1, "new")
	backend.wantStored(t, "new")
	s.wantLog(t, "0 messages wait, 3 were trimmed while the drain was off or by a full disk; the drain resumes at 4")
	s.with(t, "DJANGO_API_URL="+backend.url)
	s.wantLog(t, "")
}

// startOff starts a service whose drain is off, and returns it and its data directory.
func startOff(t *testing.T, texts ...string) (*service, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := startService(t, "DATA_DIR="+dir, "PERSIST_LINGER=0s")
	for _, text := range texts {
		s.send(t, 1, text)
	}
	return s, dir
}

// skipped is the JSON output of drain skip.
type skipped struct {
	Position, To, End, Waiting, Forgotten, Gone uint64
	Changed                                     bool
}

func skip(t *testing.T, dir string, args ...string) (s skipped) {
	t.Helper()
	out, status := tool(t, append([]string{"drain", "skip", "--json", "--data-dir", dir}, args...)...)
	if status != 0 {
		t.Fatalf("drain skip %v: %d %s", args, status, out)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return s
}

func TestDrainSkipForgetsAPartOfTheBacklog(t *testing.T) {
	backend := startStoring(t)
	s, dir := startOff(t, "1", "2", "3", "4", "5")
	if out, status := tool(t, "drain", "skip", "--to", "now", "--yes", "--data-dir", dir); status != 3 {
		t.Errorf("beside a service: %d %s", status, out)
	}
	s.terminate()
	counted := skipped{Position: 1, To: 3, End: 6, Waiting: 5, Forgotten: 2}
	for range 2 { // the first run changes nothing
		if got := skip(t, dir, "--to", "3"); got != counted {
			t.Errorf("it counts %+v, want %+v", got, counted)
		}
	}
	counted.Changed = true
	if got := skip(t, dir, "--to", "3", "--yes"); got != counted {
		t.Errorf("it did %+v, want %+v", got, counted)
	}
	if out, status := tool(t, "verify", "--data-dir", dir); status != 0 {
		t.Errorf("verify: %d %s", status, out)
	}
	s.with(t, "DJANGO_API_URL="+backend.url)
	backend.wantStored(t, "3", "4", "5")
	s.wantLog(t, "3 messages wait, 0 were trimmed")
}

func TestDrainSkipNowForgetsTheBacklog(t *testing.T) {
	backend := startStoring(t)
	s, dir := startOff(t, "1", "2", "3", "4", "5")
	s.kill() // unflushed messages count too
	out, status := tool(t, "drain", "skip", "--to", "now", "--data-dir", dir)
	if status != 0 || !strings.Contains(out, "5 messages wait") || !strings.Contains(out, "--yes") || !strings.Contains(out, "nothing was changed") {
		t.Errorf("counting: %d %s", status, out)
	}
	out, status = tool(t, "drain", "skip", "--to", "now", "--yes", "--data-dir", dir)
	if status != 0 || !strings.Contains(out, "5 are skipped") || strings.Contains(out, "nothing was changed") {
		t.Errorf("skipping: %d %s", status, out)
	}
	out, status = tool(t, "drain", "skip", "--to", "now", "--yes", "--data-dir", dir)
	if status != 0 || !strings.Contains(out, "nothing to skip") {
		t.Errorf("skipping again: %d %s", status, out)
	}
	s.with(t, "DJANGO_API_URL="+backend.url)
	s.send(t, 1, "6")
	backend.wantStored(t, "6")
	s.wantLog(t, "")
}

func TestDrainSkipRefuses(t *testing.T) {
	s, dir := startOff(t, "1", "2", "3")
	s.terminate()
	for _, to := range []string{"0", "1", "5", "18446744073709551615", "18446744073709551616", "-1", "3.5", "then", ""} {
		out, status := tool(t, "drain", "skip", "--to="+to, "--yes", "--data-dir", dir)
		if status != 2 || !strings.Contains(out, `--to "`+to+`" must be`) {
			t.Errorf("--to %q: %d %s", to, status, out)
		}
	}
	if out, status := tool(t, "drain", "skip", "--yes", "--data-dir", dir); status != 2 {
		t.Errorf("without --to: %d %s", status, out)
	}
	if got, want := skip(t, dir, "--to", "4"), (skipped{Position: 1, To: 4, End: 4, Waiting: 3, Forgotten: 3}); got != want {
		t.Errorf("after all of these it counts %+v, want %+v", got, want)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if out, status := tool(t, "drain", "skip", "--to", "now", "--yes", "--data-dir", missing); status != 1 || !strings.Contains(out, "no store") {
		t.Errorf("of nothing: %d %s", status, out)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("the skip created a store")
	}
}
