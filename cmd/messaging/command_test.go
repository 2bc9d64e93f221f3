package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// messaging runs one command of the program and returns its status and output.
func messaging(t *testing.T, env []string, args ...string) (status int, out, errs string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // some commands must not keep running
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), stdout.String(), stderr.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, stdout.String(), stderr.String()
}

func TestClientOfTheOriginal(t *testing.T) {
	s := startService(t)
	out, err := exec.Command("/usr/bin/env", "python3", "../../testdata/original_client.py", s.url).CombinedOutput()
	if err != nil || strings.Contains(string(out), "FAILED") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestWrongConfigurationIsOneLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("http_port: 1\nhtp_addr: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env, args []string
		want      string
	}{
		{env: []string{"HTTP_PORT=x"}, want: `HTTP_PORT "x" must be a number`},
		{env: []string{"HTTP_PORT=70000"}, want: "HTTP_PORT"},
		{env: []string{"MESSAGING_PERSIST_LINGER=5x"}, want: "MESSAGING_PERSIST_LINGER"},
		{env: []string{"MESSAGE_RETENTION_DAYS=0"}, want: "MESSAGE_RETENTION_DAYS"},
		{env: []string{"MESSAGE_RETENTION_DAYS=NaN"}, want: "MESSAGE_RETENTION_DAYS"},
		{env: []string{"PERSIST_MAX_BATCH_BYTES=many"}, want: "PERSIST_MAX_BATCH_BYTES"},
		{env: []string{"DJANGO_API_URL=backend"}, want: "DJANGO_API_URL"},
		{env: []string{"DJANGO_DUPLICATE_PATTERN=("}, want: "DJANGO_DUPLICATE_PATTERN"},
		{env: []string{"DJANGO_HEADERS=x"}, want: "DJANGO_HEADERS"},
		{env: []string{"API_TOKENS=secretonly"}, want: "API_TOKENS"},
		{env: []string{"API_TOKENS_FILE=/does/not/exist"}, want: "API_TOKENS_FILE"},
		{env: []string{"HTTP_ADDR=0.0.0.0"}, want: "ALLOW_ANONYMOUS"},
		{env: []string{"LOG_LEVEL=loud"}, want: "LOG_LEVEL"},
		{env: []string{"DJANGO_API_URL=http://backend:99999"}, want: "DJANGO_API_URL"},
		{env: []string{"DJANGO_API_TOKEN=secretonly\x01"}, want: "DJANGO_API_TOKEN"},
		{env: []string{"DJANGO_API_TOKEN=secretonly\nX-Other: 1"}, want: "DJANGO_API_TOKEN"},
		{env: []string{"DJANGO_SHARED_SECRET=secretonly\r"}, want: "DJANGO_SHARED_SECRET"},
		{env: []string{"ERLANG_SHARED_SECRET=secretonly\x7f"}, want: "ERLANG_SHARED_SECRET"},
		{env: []string{"DJANGO_AUTH_SCHEME=To\nken"}, want: "DJANGO_AUTH_SCHEME"},
		{env: []string{"DJANGO_HEADERS=X-A: secretonly\x02"}, want: "DJANGO_HEADERS"},
		{env: []string{"DJANGO_PERSIST_PATH=/%zz/"}, want: "DJANGO_PERSIST_PATH"},
		{env: []string{"DJANGO_PERSIST_PATH=/a\x01/"}, want: "DJANGO_PERSIST_PATH"},
		{env: []string{"DJANGO_PERSIST_PATH=/a/#b"}, want: "DJANGO_PERSIST_PATH"},
		{env: []string{"DJANGO_PERSIST_PATH=a/"}, want: "DJANGO_PERSIST_PATH"},
		{env: []string{"API_TOKENS=a:secretonly\x01"}, want: "API_TOKENS"},
		{env: []string{"API_TOKENS=a\x01:secretonly"}, want: "API_TOKENS"},
		{env: []string{"METRICS_TOKEN=secretonly\x7f"}, want: "METRICS_TOKEN"},
		{env: []string{"METRICS_TOKEN=secretonly with a space"}, want: "METRICS_TOKEN"},
		{env: []string{"ALLOWED_HOSTS=https://chat.example"}, want: "ALLOWED_HOSTS"},
		{env: []string{"ALLOWED_HOSTS=*"}, want: "ALLOWED_HOSTS"},
		{env: []string{"ALLOWED_HOSTS=.example.com"}, want: "ALLOWED_HOSTS"},
		{env: []string{"ALLOWED_HOSTS=chat.example:x"}, want: "ALLOWED_HOSTS"},
		{env: []string{"ALLOWED_HOSTS=chat.example/"}, want: "ALLOWED_HOSTS"},
		{env: []string{"QUEUE_PRIORITY_WEIGHTS=high:8"}, want: "QUEUE_PRIORITY_WEIGHTS"},
		{args: []string{"--config", file}, want: `unknown key "htp_addr"`},
		{args: []string{"--config", filepath.Join(dir, "none.toml")}, want: "cannot be read"},
		{args: []string{"--http-port", "x"}, want: "--http-port"},
		{args: []string{"--no-such-flag"}, want: "unknown flag"},
	} {
		env := append([]string{"DATA_DIR=" + filepath.Join(dir, "data")}, c.env...)
		status, _, errs := messaging(t, env, append([]string{"serve"}, c.args...)...)
		if status != 2 || !strings.Contains(errs, c.want) || strings.Count(strings.TrimSpace(errs), "\n") != 0 {
			t.Errorf("%v %v: status %d, %q, want one line with %q", c.env, c.args, status, errs, c.want)
		}
		if strings.Contains(errs, "secretonly") {
			t.Errorf("a secret is shown: %s", errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("a wrong configuration made a data directory")
	}
}

func TestConfigShowsWhereValuesComeFrom(t *testing.T) {
	dir := t.TempDir()
	yaml, toml, secret := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "c.toml"), filepath.Join(dir, "secret")
	for name, text := range map[string]string{
		yaml: "http_port: 1000\nmax_connections: 20\nallowed_hosts: [a, b]\n", toml: "http_port = 1000\nmax_connections = 20\nallowed_hosts = [\"a\", \"b\"]\n", secret: "s3cret-of-the-tests\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{yaml, toml} {
		env := []string{"HTTP_PORT=2000", "MESSAGING_CONFIG=" + file, "ERLANG_SHARED_SECRET_FILE=" + secret, "PERSIST_LINGER=1s", "MESSAGING_PERSIST_LINGER=2s"}
		status, out, errs := messaging(t, env, "config", "--json", "--persist-concurrency=7")
		if status != 0 {
			t.Fatalf("%d %s", status, errs)
		}
		var lines []struct{ Name, Value, Source string }
		if err := json.Unmarshal([]byte(out), &lines); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]string)
		for _, l := range lines {
			got[l.Name] = l.Value + " from " + l.Source
		}
		for name, want := range map[string]string{
			"HTTP_PORT": "2000 from environment HTTP_PORT", "MAX_CONNECTIONS": "20 from file " + file, "ALLOWED_HOSTS": "a,b from file " + file,
			"PERSIST_LINGER": "2s from environment MESSAGING_PERSIST_LINGER", "PERSIST_CONCURRENCY": "7 from flag --persist-concurrency",
			"DJANGO_SHARED_SECRET": "(secret) from file of ERLANG_SHARED_SECRET_FILE", "PERSIST_TIMEOUT": "10s from default",
		} {
			if got[name] != want {
				t.Errorf("%s: %q, want %q", name, got[name], want)
			}
		}
		if strings.Contains(out, "s3cret-of-the-tests") {
			t.Error("the secret is shown")
		}
	}
}

func TestExitStatuses(t *testing.T) {
	s := startService(t)
	dir := strings.TrimPrefix(s.env[1], "DATA_DIR=")
	for _, port := range []string{"HTTP_PORT=" + freePort(t), s.env[0]} { // with another port and with the same one
		status, _, errs := messaging(t, []string{port, s.env[1], "DJANGO_API_URL=off"}, "serve")
		if status != 3 || !strings.Contains(errs, "in use") {
			t.Errorf("a second process: status %d, %s", status, errs)
		}
	}
	s.send(t, 1, "x")
	time.Sleep(1200 * time.Millisecond) // the watermark is saved within a second
	s.kill()
	logs, _ := filepath.Glob(filepath.Join(dir, "messages", "*.log"))
	for _, name := range logs {
		_ = os.Remove(name)
	}
	status, _, errs := messaging(t, []string{s.env[0], s.env[1], "DJANGO_API_URL=off"}, "serve")
	if status != 4 || !strings.Contains(errs, "damaged") {
		t.Errorf("a damaged store: status %d, %s", status, errs)
	}
}

func TestCommandsTalkToAService(t *testing.T) {
	s := startService(t, "API_TOKENS=test:s3cret-of-the-tests")
	env := []string{"MESSAGING_URL=" + s.url, "MESSAGING_TOKEN=s3cret-of-the-tests"}
	run := func(want int, args ...string) string {
		t.Helper()
		status, out, errs := messaging(t, env, args...)
		if status != want {
			t.Fatalf("%v: status %d, %s%s", args, status, out, errs)
		}
		return out + errs
	}
	contains := func(text, part string) {
		t.Helper()
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
	contains(run(0, "ping"), "ready")
	contains(run(0, "ping", "--json"), `"ready": true`)
	contains(run(0, "send", "789", "Hello", "--priority", "high", "--metadata", `{"n":9007199254740993}`), "queued")
	contains(run(0, "send", "u-1", "Hi\x1b[31m", "--json"), `"status": "success"`)
	contains(run(0, "peek", "789"), "Hello")
	contains(run(0, "peek", "u-1"), "Hi·[31m")
	contains(run(0, "take", "789", "--json"), `9007199254740993`)
	contains(run(0, "take", "789", "--json"), `"count": 0`)
	contains(run(0, "stats"), "messages_processed")
	contains(run(0, "dead-letters", "list"), "REASON")
	contains(run(1, "dead-letters", "show", "refused-01a20b02-36c5-74aa-b0e6-49477247185c"), "not_found")
	contains(run(1, "send", "a/b", "x"), "receiver_id")
	contains(run(2, "send", "x"), "needs a text")
	contains(run(0, "version"), "messaging")
	for _, command := range []string{"serve", "ping", "stats", "send", "peek", "take", "config", "version"} {
		contains(run(0, command, "--help"), "Usage: messaging "+command)
	}
	env = env[:1]
	contains(run(1, "stats"), "MESSAGING_TOKEN")
	env = []string{"MESSAGING_URL=http://127.0.0.1:1"}
	contains(run(1, "ping"), "is the service running there?")
}

func TestLogsAndMetricsHoldNoSecretAndNoText(t *testing.T) {
	s := startService(t, "API_TOKENS=test:t0psecret-of-the-tests", "LOG_LEVEL=debug", "DJANGO_API_URL=http://127.0.0.1:1", "DJANGO_API_TOKEN=t0psecret-of-the-tests", "PERSIST_MAX_BACKOFF=50ms")
	status, _, errs := messaging(t, []string{"MESSAGING_URL=" + s.url, "MESSAGING_TOKEN=t0psecret-of-the-tests"}, "send", "1", "private words")
	if status != 0 {
		t.Fatal(errs)
	}
	time.Sleep(500 * time.Millisecond)
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	log := s.log.String()
	for _, never := range []string{"t0psecret-of-the-tests", "private words"} {
		if strings.Contains(log, never) {
			t.Errorf("the log has %q", never)
		}
	}
	for _, want := range []string{`"msg":"ready"`, `"recovered_sequence":0`, "the backend does not take messages", `"msg":"stopped"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "the backend does not take messages"); n != 1 {
		t.Errorf("the outage is logged %d times", n)
	}
}

func TestMetricsNames(t *testing.T) {
	s := startService(t, "DJANGO_API_URL=http://127.0.0.1:1")
	s.send(t, 1, "x")
	response, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	out, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"messages_accepted_total 1", "messages_taken_total 0", "messages_persisted_total 0", `persist_failures_total{kind="unreached"}`,
		`dead_letters{kind="refused"} 0`, "messages_evicted_total 0", "messages_trimmed_total 0", "messages_retained_out_total 0", "queue_messages 1", "drain_lag_messages 1",
		"drain_lag_seconds ", "drain_stalled ", "drain_waiting ", "long_polls 0", "waiting_readers 0", "drain_off 0", "commit_changes_bucket", "commit_messages_bucket", "commit_fsync_seconds_bucket", "http_request_seconds_bucket", "http_connections ",
		"inflight_bytes 0", "disk_free_bytes ", "oldest_snapshot_seconds ", "store_bytes ", "store_compaction_debt_bytes ", `store_level_bytes{level="0"}`,
	} {
		if !strings.Contains(string(out), "\nmessaging_"+name) {
			t.Errorf("no messaging_%s", name)
		}
	}
}

func TestMetricsHaveTypes(t *testing.T) {
	for _, env := range []string{"DJANGO_API_URL=off", "DJANGO_API_URL=http://127.0.0.1:1"} {
		s := startService(t, env)
		s.send(t, 1, "x")
		response, err := http.Get(s.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		checkExposition(t, string(out))
		for _, want := range []string{
			"# TYPE messaging_messages_accepted_total counter", "# TYPE messaging_queue_messages gauge", "# TYPE messaging_dead_letters gauge",
			"# TYPE messaging_commit_fsync_seconds histogram", "# TYPE messaging_http_request_seconds histogram", "# TYPE messaging_http_connections gauge",
			`messaging_persist_failures_total{kind="rejected"} 0`, `messaging_dead_letters{kind="undeliverable"} 0`, "# TYPE process_resident_memory_bytes gauge",
		} {
			if !strings.Contains(string(out), "\n"+want) && !strings.HasPrefix(string(out), want) {
				t.Errorf("%s: no %s", env, want)
			}
		}
	}
}

// checkExposition checks the rules of Prometheus: the series of one name follow each other,
// after one line with their type.
func checkExposition(t *testing.T, text string) {
	t.Helper()
	var family, kind string
	seen := make(map[string]bool)
	for line := range strings.Lines(text) {
		if after, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, kind, _ = strings.Cut(strings.TrimSpace(after), " ")
			if seen[family] {
				t.Errorf("%s has its type twice", family)
			}
			seen[family] = true
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		if kind == "histogram" || kind == "summary" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
		}
		if name != family {
			t.Errorf("%s is listed under the type of %s", name, family)
		}
	}
}
