package main_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tool runs a command of the program and returns its output and exit status.
func tool(t *testing.T, args ...string) (string, int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out) + string(exit.Stderr), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

// TestDamagedStoreIsFoundRepairedAndServed follows the steps of an operator, from a flipped
// byte to a service that runs again.
func TestDamagedStoreIsFoundRepairedAndServed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startService(t, "DATA_DIR="+dir)
	for range 30 {
		s.send(t, 1, strings.Repeat("x", 200))
	}
	if out, status := tool(t, "verify", "--data-dir", dir); status != 3 || !strings.Contains(out, "--online") {
		t.Errorf("verify beside a service: %d %s", status, out)
	}
	if out, status := tool(t, "verify", "--online", "--data-dir", dir); status != 0 || !strings.Contains(out, "whole") {
		t.Errorf("verify --online: %d %s", status, out)
	}
	if status := s.terminate(); status != 0 {
		t.Fatalf("it stopped with %d", status)
	}
	if out, status := tool(t, "verify", "--data-dir", dir); status != 0 {
		t.Errorf("verify of a whole store: %d %s", status, out)
	}
	if out, status := tool(t, "repair", "--dry-run", "--data-dir", dir); status != 0 || out != "no problems were found: there is nothing to repair\n" {
		t.Errorf("repair --dry-run of a whole store: %d %s", status, out)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "messages", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log (%v)", err)
	}
	spoil(t, slices.Max(logs), 5000)

	path, _ := binary()
	if status := start(t, s.env, path, "serve").wait(); status != 4 {
		t.Errorf("a start ends with %d, want 4", status)
	}
	if out, status := tool(t, "verify", "--data-dir", dir); status != 4 || !strings.Contains(out, "acknowledged") {
		t.Errorf("verify: %d %s", status, out)
	}
	if out, status := tool(t, "repair", "--data-dir", dir); status != 2 || !strings.Contains(out, "nothing was changed") {
		t.Errorf("repair without a confirmation: %d %s", status, out)
	}
	if out, status := tool(t, "repair", "--yes", "--data-dir", dir); status != 0 || !strings.Contains(out, "quarantined") {
		t.Errorf("repair: %d %s", status, out)
	}
	wantPrivate(t, dir)
	lost := 0
	out, status := tool(t, "dump", "--json", "--data-dir", dir)
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		var record struct{ Kind string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if record.Kind == "lost" {
			lost++
		}
	}
	if status != 0 || lost > 1 {
		t.Errorf("%d of 30 messages are lost, and one commit of one message was damaged (%d):\n%s", lost, status, out)
	}
	s.start(t)
	if _, answer := s.get("/api/messages/queue/789?max_count=100"); len(messages(answer)) != 30-lost {
		t.Errorf("%d messages are queued, want %d", len(messages(answer)), 30-lost)
	}
	if out, status := tool(t, "dump", "--data-dir", t.TempDir()); status != 1 || !strings.Contains(out, "no store") {
		t.Errorf("dump of nothing: %d %s", status, out)
	}
}

// wantPrivate checks that only the owner has access to the files of a directory.
func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func spoil(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) <= at {
		t.Fatalf("%s has %d bytes", path, len(b))
	}
	b[at] ^= 0x20
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
