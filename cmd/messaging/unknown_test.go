package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnknownVariablesAreWarnedAbout(t *testing.T) {
	const unknown = "MESSAGING_HTP_PORT is not a setting (did you mean MESSAGING_HTTP_PORT?), MESSAGING_XYZZY is not a setting"
	env := []string{"MESSAGING_XYZZY=1", "MESSAGING_HTP_PORT=1"}
	for _, args := range [][]string{{"config"}, {"ping", "--url", "http://127.0.0.1:1"}, {"verify", "--data-dir", "/nope"}} {
		if _, _, errs := messaging(t, env, args...); !strings.HasPrefix(errs, "messaging: warning: "+unknown+"\n") || strings.Count(errs, "not a setting") != 2 {
			t.Errorf("%v: %s", args, errs)
		}
	}
	if _, _, errs := messaging(t, env, "version"); errs != "" {
		t.Errorf("version: %s", errs)
	}
	s := startService(t, env...)
	if status := s.terminate(); status != 0 || !strings.Contains(s.log.String(), `"level":"WARN","msg":"the environment has unknown variables: `+unknown+`"`) {
		t.Errorf("status %d, %s", status, s.log)
	}
}

func TestKnownVariablesAreNotWarnedAbout(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("name:a-secret-of-the-tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{
		"MESSAGING_URL=http://127.0.0.1:1", "MESSAGING_TOKEN=x", "MESSAGING_TOKEN_FILE=" + secret, "MESSAGING_CONFIG=", "MESSAGING_HTTP_PORT=1",
		"MESSAGING_ERLANG_SHARED_SECRET=a-secret-of-the-tests", "MESSAGING_API_TOKENS_FILE=" + secret, "MESSAGING_TEST_BINARY=x", "MESSAGING_TEST_PYTHON=x",
		"MESSAGING_FAULT=x", "MESSAGING_CPU_PROFILE=x",
		// Kubernetes sets these beside services named messaging and messaging-web.
		"MESSAGING_SERVICE_HOST=10.0.0.1", "MESSAGING_SERVICE_PORT=8765", "MESSAGING_SERVICE_PORT_HTTP=8765", "MESSAGING_PORT=tcp://10.0.0.1:8765",
		"MESSAGING_PORT_8765_TCP=tcp://10.0.0.1:8765", "MESSAGING_PORT_8765_TCP_ADDR=10.0.0.1", "MESSAGING_WEB_SERVICE_HOST=10.0.0.1", "MESSAGING_WEB_PORT=tcp://10.0.0.1:80",
	} {
		if status, _, errs := messaging(t, []string{env}, "config"); status != 0 || errs != "" {
			t.Errorf("%s: status %d, %s", env, status, errs)
		}
	}
}
