package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// as calls the service with a token.
func (s *service) as(token, method, path string) int {
	request, err := http.NewRequest(method, s.url+path, http.NoBody)
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// newToken makes a token by the command, and returns its secret and its entry.
func newToken(t *testing.T, args ...string) (secret, entry string) {
	t.Helper()
	status, out, errs := messaging(t, nil, append([]string{"tokens", "new", "--json"}, args...)...)
	var made struct{ Secret, Entry string }
	if err := json.Unmarshal([]byte(out), &made); status != 0 || err != nil {
		t.Fatalf("%d %s %s", status, out, errs)
	}
	return made.Secret, made.Entry
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A token that the command made is accepted for its scope and its users. The file is loaded
// again when it changes and on SIGHUP; a wrong one changes nothing.
func TestTokensFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	reader, first := newToken(t, "reader", "--scopes", "take,peek", "--take", "789,tenant-a.*")
	metrics, second := newToken(t, "prometheus", "--scopes", "metrics", "--expires", "2100-01-01")
	write(t, file, first, 0o640)
	audit := filepath.Join(t.TempDir(), "audit.log")
	s := startService(t, "TOKENS_FILE="+file, "AUDIT_LOG="+audit)
	for _, c := range []struct {
		token, path string
		want        int
	}{
		{reader, "/api/messages/queue/789", 200},
		{reader, "/api/messages/queue/tenant-a.1", 200},
		{reader, "/api/messages/queue/790", 403},
		{reader, "/api/messages/queue/790?peek=true", 200},
		{reader, "/api/stats", 403},
		{metrics, "/metrics", 401},
		{"", "/api/stats", 401},
		{"", "/health", 200},
	} {
		if got := s.as(c.token, "GET", c.path); got != c.want {
			t.Errorf("%s: %d, want %d", c.path, got, c.want)
		}
	}

	write(t, file, second, 0o640)
	eventually(t, 10*time.Second, "the changed file is in force", func() bool {
		return s.as(metrics, "GET", "/metrics") == 200 && s.as(reader, "GET", "/api/messages/queue/789") != 200
	})
	write(t, file, "tokens: [{name: x}]", 0o640)
	_ = s.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "the wrong file is refused", func() bool { return failedReloads(audit) == 1 })
	if got := s.as(metrics, "GET", "/metrics"); got != 200 {
		t.Errorf("after a wrong file: %d, want 200", got)
	}
	if s.terminate() != 0 || strings.Count(s.log.String(), "a file is not loaded again: the former content stays in force") != 1 {
		t.Errorf("the log does not report the wrong file once:\n%s", s.log)
	}
	for _, secret := range []string{reader, metrics, "sha256:"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// failedReloads returns how many reloads of files the audit log has that failed.
func failedReloads(audit string) int {
	text, _ := os.ReadFile(audit)
	return strings.Count(string(text), `"action":"reload","status":500`)
}

func TestTokensNewRefusesMistakes(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"x", "--scopes"},
		{"x --scopes fly", `the scope "fly" is unknown: the scopes are send, take, peek, follow, operate, metrics`},
		{"x --scopes send --take 1", "lists users for take, and does not have that scope"},
		{"x --scopes take --take a/b", `"a/b" is not a user id`},
		{"x --scopes take --expires soon", `expires "soon" must be a time`},
		{"a:b --scopes take", "needs a name"},
	} {
		status, out, errs := messaging(t, nil, append([]string{"tokens", "new"}, strings.Fields(c.args)...)...)
		if status != 2 || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %d %q %q, want status 2 and one line with %q", c.args, status, out, errs, c.want)
		}
	}
}

// What could leave the service open, or its secrets, stops the start with status 2 and one
// line.
func TestAccessFailsClosed(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "a-secret-of-the-tests"
	_, entry := newToken(t, "reader", "--scopes", "take")
	for _, c := range []struct{ env, want string }{
		{"API_TOKENS= , ", "API_TOKENS has no token"},
		{"API_TOKENS=a:short", "API_TOKENS has a token (of a) that must have 16 characters or more"},
		{"API_TOKENS=a:" + secret + ",b:" + secret, "two names with one token"},
		{"API_TOKENS=a:" + secret + ",a:other-" + secret, "each name once"},
		{"API_TOKENS_FILE=" + file("empty", "\n", 0o600), "is empty: put the secret into it"},
		{"API_TOKENS_FILE=" + file("open", "a:"+secret, 0o644), "can be read by every user of this machine: chmod o-rwx it"},
		{"METRICS_TOKEN=short", "METRICS_TOKEN must have 16 characters or more"},
		{"JWT_SECRET=short", "JWT_SECRET must have 16 characters or more"},
		{"JWT_JWKS_URL=http://auth.example/keys", "must be an https address"},
		{"JWT_KEYS_FILE=" + file("private", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600), "it has a private key"},
		{"JWT_KEYS_FILE=/nope", `JWT_KEYS_FILE "/nope" cannot be read: it does not exist`},
		{"JWT_SEND=true", "JWT_SEND needs JWT_SECRET"},
		{"TOKENS_FILE=/nope", `TOKENS_FILE "/nope" cannot be read: it does not exist`},
		{"TOKENS_FILE=" + file("none", "tokens: []", 0o600), "it has no tokens"},
		{"TOKENS_FILE=" + file("world", entry, 0o644), "can be read by every user"},
		{"TOKENS_FILE=" + file("twice", entry+strings.TrimPrefix(entry, "tokens:\n"), 0o600), "the name reader is there twice"},
		{"TOKENS_FILE=" + file("unknown", "tokens:\n- name: x\n  scope: [send]\n", 0o600), "field scope not found"},
		{"TOKENS_FILE=" + file("nobody", strings.Replace(entry, "scopes:", "take: []\n      scopes:", 1), 0o600), "its list of users for take is empty"},
		{"TRUSTED_PROXIES=proxy", "TRUSTED_PROXIES"},
		{"TLS_CERT=/nope", "TLS_CERT and TLS_KEY belong together"},
		{"TLS_CLIENT_CA=/nope", "TLS_CLIENT_CA needs TLS_CERT"},
		{"TLS_MIN=1.1", "TLS_MIN"},
		{"AUDIT_LOG=/nope/audit.log", `AUDIT_LOG "/nope/audit.log" cannot be written`},
		{"AUDIT_MESSAGES=true", "AUDIT_MESSAGES needs AUDIT_LOG"},
		{"MESSAGING_CONFIG=" + file("c.yaml", "http_port: 1000\n", 0o666), "can be written by every user of this machine"},
	} {
		status, _, errs := messaging(t, []string{"HTTP_PORT=" + freePort(t), "DATA_DIR=" + filepath.Join(dir, "data"), "DJANGO_API_URL=off", c.env}, "serve")
		if status != 2 || !strings.Contains(errs, c.want) || strings.Count(strings.TrimSpace(errs), "\n") != 0 || strings.Contains(errs, secret) {
			t.Errorf("%s: status %d, %s\nwant status 2 and one line with %q", c.env, status, errs, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("a wrong configuration made a data directory")
	}
}

// A foreign directory is refused with status 2 and stays as it is.
func TestForeignDataDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "manage.py"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	status, _, errs := messaging(t, []string{"HTTP_PORT=" + freePort(t), "DATA_DIR=" + dir, "DJANGO_API_URL=off"}, "serve")
	if info, _ := os.Stat(dir); status != 2 || !strings.Contains(errs, "has no store, and is not empty") || info.Mode().Perm() != 0o755 {
		t.Errorf("status %d, mode %v, %s", status, info.Mode(), errs)
	}
}

func TestWeakSecretsAreWarnedAbout(t *testing.T) {
	s := startService(t, "API_TOKENS=web:12345678")
	if s.as("12345678", "GET", "/api/stats") != 200 {
		t.Error("the short token is not accepted")
	}
	if s.terminate() != 0 || strings.Count(s.log.String(), "a secret is shorter than 16 characters") != 1 || !strings.Contains(s.log.String(), "API_TOKENS (web)") {
		t.Errorf("no warning:\n%s", s.log)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, append(s.env, "API_TOKENS="), path, "serve", "--api-tokens", "web:a-secret-of-the-tests")
	eventually(t, 20*time.Second, "the service is ready", func() bool {
		status, _ := s.get("/health/ready")
		return status == http.StatusOK
	})
	if p.terminate() != 0 || !strings.Contains(p.log.String(), "a secret on the command line can be read by every user") || strings.Contains(p.log.String(), "a-secret-of") {
		t.Errorf("no warning, or the secret is in the log:\n%s", p.log)
	}
}

// The audit log is JSON lines. A renamed file is replaced by a new one, on SIGHUP or by
// itself.
func TestAuditLogFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	s := startService(t, "API_TOKENS=backend:a-secret-of-the-tests", "AUDIT_LOG="+path)
	clearQueue := func(user string) {
		if got := s.as("a-secret-of-the-tests", "DELETE", "/api/messages/queue/"+user); got != 200 {
			t.Fatalf("clear: %d", got)
		}
	}
	users := func(path string) (users []string) {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			var e struct{ Time, Action, Subject, Token, Address, RequestID string }
			if err := json.Unmarshal([]byte(strings.Replace(line, "request_id", "RequestID", 1)), &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if e.Action == "clear" && (e.Token != "backend" || e.Address != "127.0.0.1" || e.RequestID == "" || e.Time == "") {
				t.Errorf("%s", line)
			}
			users = append(users, e.Action+" "+e.Subject)
		}
		return users
	}
	clearQueue("1")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	for i, trigger := range []func(){func() { _ = s.cmd.Process.Signal(syscall.SIGHUP) }, func() {}} {
		rotated := path + string(rune('1'+i))
		if err := os.Rename(path, rotated); err != nil {
			t.Fatal(err)
		}
		trigger()
		eventually(t, 10*time.Second, "there is a new file", func() bool { _, err := os.Stat(path); return err == nil })
		clearQueue("2")
	}
	got := strings.Join(append(append(users(path+"1"), users(path+"2")...), users(path)...), ", ")
	if got != "clear 1, clear 2, clear 2" {
		t.Errorf("%s", got)
	}
}
