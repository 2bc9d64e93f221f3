package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reference/settings.md from the settings table")

const settingsPage = "../../docs/reference/settings.md"

// settingGroups are the sections of the page. Each setting belongs to the first group that
// has its key or a prefix of the key.
var settingGroups = []struct {
	title, about string
	keys         []string
}{
	{"Listening", "", []string{"http_", "max_connections", "max_unauthenticated", "max_inflight_bytes", "request_timeout", "shutdown_"}},
	{"Access", "See [control access](../how-to/control-access.md).", []string{"api_tokens", "tokens_file", "metrics_token", "allow", "trusted_proxies", "audit_"}},
	{"JWTs of users", "See [control access](../how-to/control-access.md#jwts-of-users).", []string{"jwt_"}},
	{"TLS", "See [control access](../how-to/control-access.md#tls).", []string{"tls_"}},
	{"Queues", "See [queues](queues.md).", []string{"message_", "queue_", "idempotency_", "dead_letter_"}},
	{"Backend", "See [what each answer of Django does](django-answers.md), and [moving from the original](../how-to/move-from-the-original.md).", []string{"django_", "signing_keys"}},
	{"Drain", "How messages are sent to the backend.", []string{"persist_"}},
	{"Storage", "", []string{"data_dir", "disk_", "cache_"}},
	{"Log", "", []string{"log_"}},
	{"Command line", "For the commands that call a running service. `serve` has no flags for these.", []string{"messaging_"}},
}

// TestSettingsPage checks that docs/reference/settings.md matches the settings table. With
// -update it writes the page:
//
//	go test ./cmd/messaging -run TestSettingsPage -update
func TestSettingsPage(t *testing.T) {
	want := settingsReference(t)
	if *update {
		if err := os.WriteFile(settingsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(settingsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Error("docs/reference/settings.md differs from the settings table: run go test ./cmd/messaging -run TestSettingsPage -update")
	}
}

const settingsIntroduction = `# Settings

This page is generated from the settings table of the program (` + "`cmd/messaging/settings.go`" + `); a test fails if the two differ.

A setting has one name in three forms: a flag (` + "`--django-api-url`" + `), a variable in the environment (` + "`DJANGO_API_URL`" + `), and a key in one
YAML or TOML file (` + "`django_api_url`" + `). A flag wins over the environment, the environment wins over the file, and the file wins over the default.
` + "`--config`" + ` or ` + "`MESSAGING_CONFIG`" + ` names the file.

- Every variable is also read with the prefix ` + "`MESSAGING_`" + `, and that form wins: Kubernetes sets ` + "`HTTP_PORT`" + ` in every container beside a service
  named ` + "`http`" + `, so ` + "`MESSAGING_HTTP_PORT`" + ` is unambiguous. An empty variable counts as not set.
- A secret can be in a file instead: ` + "`API_TOKENS_FILE=/run/secrets/tokens`" + `. No command prints a secret or the password in an address.
- If a value is not allowed, or a key in the file is unknown, the start fails with status 2 and one line that names the setting.
- ` + "`messaging config`" + ` prints all values in force and the source of each.

A duration has a unit, such as ` + "`500ms`, `30s` or `2h`" + `. Sizes take the units ` + "`KiB`, `MiB`, `GiB` (`K`, `KB` and so on mean the same)" + `; a bare number is bytes.
`

// settingsReference returns the whole page.
func settingsReference(t *testing.T) string {
	t.Helper()
	sections := make([]strings.Builder, len(settingGroups))
	for i := range settings {
		s := &settings[i]
		group := groupOf(s.key)
		if group < 0 {
			t.Fatalf("no group of settingGroups has the setting %s", s.key)
		}
		writeSetting(&sections[group], s)
	}
	var page strings.Builder
	page.WriteString(settingsIntroduction)
	for i, group := range settingGroups {
		fmt.Fprintf(&page, "\n## %s\n", group.title)
		if group.about != "" {
			fmt.Fprintf(&page, "\n%s\n", group.about)
		}
		page.WriteString("\n| environment | key in a file | flag | default | value | meaning |\n| --- | --- | --- | --- | --- | --- |\n")
		page.WriteString(sections[i].String())
	}
	return page.String()
}

func groupOf(key string) int {
	for i, group := range settingGroups {
		for _, prefix := range group.keys {
			if strings.HasPrefix(key, prefix) {
				return i
			}
		}
	}
	return -1
}

func writeSetting(w *strings.Builder, s *setting) {
	fallback := "empty"
	if s.fallback != "" {
		fallback = "`" + s.fallback + "`"
	}
	names := "`" + s.env() + "`"
	if s.also != "" {
		names += ", `" + s.also + "`"
	}
	fmt.Fprintf(w, "| %s | `%s` | `--%s` | %s | %s | %s |\n", names, s.key, s.flag(), fallback, allowed(s), s.help)
}

// allowed returns the allowed values of a setting, with unit and range: the shortened error
// of the program for an invalid value.
func allowed(s *setting) string {
	text := "text"
	if err := s.set(&Config{}, "(\x00\n"); err != nil {
		text = err.Error()
		for _, r := range shortened {
			text = r.pattern.ReplaceAllString(text, r.by)
		}
	}
	if s.fallback == "auto" {
		text = "`auto`, or " + text
	}
	if s.secret {
		text += " (secret)"
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

var shortened = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`^must not have (spaces or )?control characters.*`), "text without ${1}control characters"},
	{regexp.MustCompile(`^must be a duration .* from (\S+) to (\S+)$`), "duration, $1 to $2"},
	{regexp.MustCompile(`^must be a number of bytes .* at least (\d+)$`), "bytes, at least $1"},
	{regexp.MustCompile(`^must be a number from (\d+) to (\d+)$`), "number, $1 to $2"},
	{regexp.MustCompile(`^must be a regular expression: .*`), "regular expression"},
	{regexp.MustCompile(` \(make one with: (.*)\)`), "; `$1` makes one"},
	{regexp.MustCompile(`^must be (an? )?`), ""},
	{regexp.MustCompile(`^must give `), ""},
	{regexp.MustCompile(`(\dh)0m0s|(\dm)0s`), "$1$2"},
}
