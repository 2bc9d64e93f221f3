package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLineFindsTheService(t *testing.T) {
	s := startService(t, "API_TOKENS=test:s3cret-of-the-tests")
	port := strings.TrimPrefix(s.env[0], "HTTP_PORT=")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write("token", "s3cret-of-the-tests\n")
	file := write("c.yaml", "messaging_url: "+s.url+"\nmessaging_token: s3cret-of-the-tests\n")
	portFile := write("p.yaml", "http_port: "+port+"\n")
	for _, c := range []struct {
		name   string
		env    []string
		args   []string
		status int
	}{
		{name: "token in a file", env: []string{"MESSAGING_URL=" + s.url, "MESSAGING_TOKEN_FILE=" + token}, args: []string{"stats"}},
		{name: "all in the configuration file", env: []string{"MESSAGING_CONFIG=" + file}, args: []string{"stats"}},
		{name: "flags", args: []string{"stats", "--url", s.url + "/", "--token", "s3cret-of-the-tests"}},
		{name: "flags win", env: []string{"MESSAGING_URL=http://127.0.0.1:1", "MESSAGING_TOKEN=x"}, args: []string{"stats", "--url", s.url, "--token", "s3cret-of-the-tests"}},
		{name: "the service's port", env: []string{"HTTP_PORT=" + port}, args: []string{"ping"}},
		{name: "the service's port and address", env: []string{"MESSAGING_HTTP_PORT=" + port, "HTTP_PORT=tcp://10.0.0.1:80", "HTTP_ADDR=0.0.0.0"}, args: []string{"ping"}},
		{name: "the service's port in its file", env: []string{"MESSAGING_CONFIG=" + portFile}, args: []string{"ping"}},
		{name: "another's HTTP_PORT", env: []string{"MESSAGING_URL=" + s.url, "HTTP_PORT=tcp://10.0.0.1:80"}, args: []string{"ping"}},
		{name: "secrets of the service that cannot be read", env: []string{"HTTP_PORT=" + port, "API_TOKENS_FILE=/does/not/exist"}, args: []string{"ping"}},
		{name: "no token file", env: []string{"MESSAGING_URL=" + s.url, "MESSAGING_TOKEN_FILE=/does/not/exist"}, args: []string{"stats"}, status: 2},
		{name: "no address", args: []string{"ping", "--url", "127.0.0.1:1"}, status: 2},
		{name: "a token that cannot be sent", env: []string{"MESSAGING_URL=" + s.url, "MESSAGING_TOKEN=a\nb"}, args: []string{"stats"}, status: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status, out, errs := messaging(t, c.env, c.args...); status != c.status {
				t.Errorf("status %d, want %d: %s%s", status, c.status, out, errs)
			}
		})
	}
}

func TestConfigShowsWhatTheCommandLineUses(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want []string
	}{
		{nil, []string{"http://127.0.0.1:8765"}},
		{[]string{"HTTP_PORT=9000"}, []string{"http://127.0.0.1:9000", "HTTP_ADDR and HTTP_PORT"}},
		{[]string{"MESSAGING_URL=http://chat.example", "MESSAGING_TOKEN=s3cret-of-the-tests"}, []string{"http://chat.example", "environment MESSAGING_URL", "environment MESSAGING_TOKEN"}},
		{[]string{"MESSAGING_ERLANG_SHARED_SECRET=s3cret-of-the-tests"}, []string{"environment MESSAGING_ERLANG_SHARED_SECRET"}},
	} {
		status, out, errs := messaging(t, c.env, "config")
		for _, want := range c.want {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("%v: status %d, no %q in %s%s", c.env, status, want, out, errs)
			}
		}
		if strings.Contains(out, "s3cret-of-the-tests") {
			t.Errorf("a secret is shown: %s", out)
		}
	}
}
