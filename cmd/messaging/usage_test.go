package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// The error for a mistake is one line that names the flag or the argument, the value and
// the remedy. The exit status is 2.
func TestMistakesNameThePlaceTheValueAndTheRemedy(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"a.yaml": "http_port: [1\n", "a.toml": "http_port = [1\n", "key.yaml": "htp_port: 1\n", "map.yaml": "http_port: {a: 1}\n",
		"value.yaml": "http_port: many\n", "file": "x",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := binary(); err != nil { // built before the directory changes
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, c := range []struct {
		args, env []string
		want      string
	}{
		// Commands.
		{args: []string{"tke"}, want: `unknown command "tke": did you mean take? (see messaging --help)`},
		{args: []string{"xyzzy"}, want: `unknown command "xyzzy" (see messaging --help)`},
		{args: []string{"dead-letters"}, want: `dead-letters needs a command: list, show, redrive, drop (see messaging dead-letters --help)`},
		{args: []string{"dead-letters", "lst"}, want: `unknown command "lst": did you mean list? (see messaging dead-letters --help)`},
		// Arguments.
		{args: []string{"take"}, want: `take needs <user>, id of the queue's user (see messaging take --help)`},
		{args: []string{"ack"}, want: `ack needs <user>, id of the queue's user; and <receipts>, receipts that take --lease printed (see messaging ack --help)`},
		{args: []string{"take", "7", "8"}, want: `unexpected argument "8" for take: put quotes around a text with spaces (see messaging take --help)`},
		{args: []string{"ping", "8"}, want: `ping takes no arguments: "8" is not allowed (see messaging ping --help)`},
		{args: []string{"send"}, want: `send needs a receiver and a text: messaging send 789 "Hello" (or the whole message with --stdin)`},
		{args: []string{"send", "789"}, want: `send needs a text after the receiver "789": messaging send 789 "Hello" (or the whole message with --stdin)`},
		{args: []string{"broadcast", "Hello"}, want: `broadcast needs receivers: messaging broadcast "Hello" 7 8 9, or a file of them with --users-file`},
		{args: []string{"batch", "/nope"}, want: `<file> "/nope" cannot be read: it does not exist; name a file with a message as JSON on each line, or - for standard input`},
		{args: []string{"batch", "/"}, want: `<file> "/" cannot be read: it is a directory; name a file with a message as JSON on each line, or - for standard input`},
		// Flags.
		{args: []string{"take", "7", "--lese", "3"}, want: `unknown flag --lese: did you mean --lease? (see messaging take --help)`},
		{args: []string{"take", "7", "--xyzzy"}, want: `unknown flag --xyzzy (see messaging take --help)`},
		{args: []string{"serve", "--no-alow-anonymous"}, want: `unknown flag --no-alow-anonymous: did you mean --no-allow-anonymous? (see messaging serve --help)`},
		{args: []string{"--json", "ping"}, want: `unknown flag --json: flags go after the command (see messaging --help)`},
		{args: []string{"drain", "skip"}, want: `drain skip needs --to=SEQ|now (see messaging drain skip --help)`},
		{args: []string{"ping", "--url"}, want: `--url needs a value (see messaging ping --help)`},
		{args: []string{"ping", "--url", "x"}, want: `--url "x" must be an address such as http://127.0.0.1:8765`},
		{args: []string{"ping", "--json=maybe"}, want: `--json "maybe" must be true or false (or 1, 0, yes, no) (see messaging ping --help)`},
		{args: []string{"ping", "--no-json=maybe"}, want: `the value of a flag that begins with --no- must be true or false (or 1, 0, yes, no) (see messaging ping --help)`},
		{args: []string{"send", "7", "x", "--metadata", "{bad"}, want: `--metadata "{bad" must be a JSON object, such as '{"color": "red"}'`},
		{args: []string{"send", "7", "x", "--metadata", "[1]"}, want: `--metadata "[1]" must be a JSON object, such as '{"color": "red"}'`},
		{args: []string{"broadcast", "x", "--users-file", "/nope"}, want: `--users-file "/nope" cannot be read: it does not exist; name a file with the id of a receiver on each line, or - for standard input`},
		// Numbers and durations.
		{args: []string{"take", "7", "-n", "x"}, want: `--count "x" must be a whole number, at least 1 (see messaging take --help)`},
		{args: []string{"take", "7", "-n", "0"}, want: `--count "0" must be a whole number, at least 1 (see messaging take --help)`},
		{args: []string{"take", "7", "-n", "-1"}, want: `--count needs a value: if that is "-1", write --count=-1 (see messaging take --help)`},
		{args: []string{"dump", "--from", "-1"}, want: `--from needs a value: if that is "-1", write --from=-1 (see messaging dump --help)`},
		{args: []string{"dump", "--from=-1"}, want: `--from "-1" must be a whole number, at least 0 (see messaging dump --help)`},
		{args: []string{"replay", "--rate", "many"}, want: `--rate "many" must be a whole number (see messaging replay --help)`},
		{args: []string{"take", "7", "--lease", "0"}, want: `--lease "0" must be a duration of whole seconds such as 30, 30s or 5m (a bare number is seconds), from 1s to 1h (see messaging take --help)`},
		{args: []string{"take", "7", "--lease", "1.5"}, want: `--lease "1.5" must be a duration of whole seconds such as 30, 30s or 5m (a bare number is seconds), from 1s to 1h (see messaging take --help)`},
		{args: []string{"take", "7", "--wait", "61"}, want: `--wait "61" must be a duration of whole seconds such as 30, 30s or 5m (a bare number is seconds), from 0s to 1m (see messaging take --help)`},
		{args: []string{"send", "7", "x", "--delay=-5s"}, want: `--delay "-5s" must be a duration such as 30, 30s or 5m (a bare number is seconds), at least 0s (see messaging send --help)`},
		{args: []string{"nack", "7", "r", "--delay", "25h"}, want: `--delay "25h" must be a duration such as 30, 30s or 5m (a bare number is seconds), from 0s to 1d (see messaging nack --help)`},
		{args: []string{"extend", "7", "r", "--lease", "soon"}, want: `--lease "soon" must be a duration such as 30, 30s or 5m (a bare number is seconds), from 1s to 1h (see messaging extend --help)`},
		// Settings: as a flag, in the environment, in a file.
		{args: []string{"serve", "--http-port", "80x"}, want: `--http-port "80x" must be a number from 0 to 65535`},
		{args: []string{"serve"}, env: []string{"MESSAGING_HTTP_PORT=80x"}, want: `MESSAGING_HTTP_PORT "80x" must be a number from 0 to 65535`},
		{args: []string{"serve", "--config", "value.yaml"}, want: `http_port "many" in the file value.yaml must be a number from 0 to 65535`},
		{args: []string{"serve", "--persist-linger", "2h"}, want: `--persist-linger "2h" must be a duration such as 500ms, 30s or 5m (a bare number is seconds), from 0s to 1m`},
		{args: []string{"serve"}, env: []string{"MESSAGE_RETENTION_DAYS=0"}, want: `MESSAGE_RETENTION_DAYS "0" must be a number of days, with a fraction or without, or a duration such as 12h or 90d, above 0 and at most 36500 days`},
		{args: []string{"serve"}, env: []string{"ALLOW_ANONYMOUS=maybe"}, want: `ALLOW_ANONYMOUS "maybe" must be true or false (or 1, 0, yes, no)`},
		{args: []string{"serve"}, env: []string{"DJANGO_DUPLICATE_PATTERN=("}, want: `DJANGO_DUPLICATE_PATTERN "(" must be a regular expression: it has an error at "(" (missing closing ))`},
		{args: []string{"serve"}, env: []string{"API_TOKENS_FILE=/nope"}, want: `API_TOKENS_FILE "/nope" cannot be read: it does not exist`},
		{args: []string{"serve", "--config", "none.yaml"}, want: `the configuration file none.yaml cannot be read: it does not exist (see --config and MESSAGING_CONFIG)`},
		{args: []string{"serve", "--config", "file"}, want: `the configuration file file must end in .yaml, .yml or .toml`},
		{args: []string{"serve", "--config", "a.yaml"}, want: `the configuration file a.yaml is not YAML: line 1: did not find expected ',' or ']'`},
		{args: []string{"serve", "--config", "a.toml"}, want: `the configuration file a.toml is not TOML: expected character ] but the document ended here`},
		{args: []string{"serve", "--config", "key.yaml"}, want: `the configuration file key.yaml has the unknown key "htp_port": did you mean http_port?`},
		{args: []string{"serve", "--config", "map.yaml"}, want: `http_port in the file map.yaml must be one value or a list of values`},
		// Data directories and addresses.
		{args: []string{"serve", "--data-dir", "/etc/passwd"}, want: `--data-dir "/etc/passwd" must be a directory, but it is a file: name a directory`},
		{args: []string{"serve"}, env: []string{"DATA_DIR=/etc/passwd/x"}, want: `DATA_DIR "/etc/passwd/x" cannot be used: a part of its path is a file; name a directory`},
		{args: []string{"serve", "--data-dir", "/proc/nope"}, want: `--data-dir "/proc/nope" cannot be created: its file system does not allow it; name another directory`},
		{args: []string{"verify", "--data-dir", "file"}, want: `--data-dir "file" must be a directory, but it is a file: name a directory`},
		{args: []string{"serve"}, env: []string{"HTTP_ADDR=192.0.2.1", "ALLOW_ANONYMOUS=1", "DATA_DIR=" + dir}, want: `HTTP_ADDR "192.0.2.1" must be an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them`},
	} {
		status, out, errs := messaging(t, append([]string{"LOG_FORMAT=json"}, c.env...), c.args...)
		if want := "messaging: " + c.want + "\n"; status != 2 || errs != want || out != "" {
			t.Errorf("%v %v: status %d, want 2\n got  %s want %s%s", c.env, c.args, status, errs, want, out)
		}
	}
}

// An error that a change of the command line cannot fix has exit status 1.
func TestFailuresNameThePlaceAndTheRemedy(t *testing.T) {
	port := freePort(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ping", "--url", "http://127.0.0.1:" + port}, "no answer: nothing listens at http://127.0.0.1:" + port + ": is the service running there? (see --url and MESSAGING_URL)"},
		{[]string{"ping", "--url", "http://host.invalid:1"}, `no answer: the host "host.invalid" in http://host.invalid:1 is not known: see --url and MESSAGING_URL`},
		{[]string{"verify", "--data-dir", "/nope"}, "there is no store in /nope: name its directory by --data-dir or DATA_DIR"},
	} {
		status, out, errs := messaging(t, nil, c.args...)
		if want := "messaging: " + c.want + "\n"; status != 1 || errs != want || out != "" {
			t.Errorf("%v: status %d, want 1\n got  %s want %s%s", c.args, status, errs, want, out)
		}
	}
}

func TestVersionIsAFlagAndACommand(t *testing.T) {
	_, command, _ := messaging(t, nil, "version")
	for _, args := range [][]string{{"--version"}, {"take", "--version"}} {
		if status, out, errs := messaging(t, nil, args...); status != 0 || out != command || errs != "" {
			t.Errorf("%v: status %d, %q, want %q; %s", args, status, out, command, errs)
		}
	}
}

func TestSwitchesAreSwitches(t *testing.T) {
	for _, c := range []struct {
		env, args []string
		want      string
	}{
		{args: []string{"--allow-anonymous"}, want: "true"},
		{args: []string{"--allow-anonymous=yes"}, want: "true"},
		{args: []string{"--allow-anonymous=0"}, want: "false"},
		{env: []string{"ALLOW_ANONYMOUS=1"}, args: []string{"--no-allow-anonymous"}, want: "false"},
		{env: []string{"ALLOW_ANONYMOUS=no"}, args: []string{"--no-allow-anonymous=false"}, want: "true"},
		{want: "false"},
	} {
		status, out, errs := messaging(t, c.env, append([]string{"config", "--json"}, c.args...)...)
		if got := shownSetting(t, out, "ALLOW_ANONYMOUS"); status != 0 || got != c.want {
			t.Errorf("%v %v: status %d, %q, want %q; %s", c.env, c.args, status, got, c.want, errs)
		}
	}
	if _, out, _ := messaging(t, nil, "version", "--json", "--no-json"); out[0] == '{' {
		t.Errorf("--no-json prints %s", out)
	}
}

// shownSetting returns a value from the output of messaging config --json.
func shownSetting(t *testing.T, out, name string) string {
	t.Helper()
	var lines []struct{ Name, Value string }
	if err := json.Unmarshal([]byte(out), &lines); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, l := range lines {
		if l.Name == name {
			return l.Value
		}
	}
	t.Fatalf("no %s", name)
	return ""
}
