package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
)

// service is the program with a data directory of its own.
type service struct {
	*program.Program

	t      *testing.T
	config program.Config
	log    *lines
}

// startService starts the program on an empty data directory.
func startService(t *testing.T, env ...string) *service {
	t.Helper()
	s := &service{t: t, log: &lines{}}
	s.config = program.Config{
		Path: programPath, Dir: filepath.Join(t.TempDir(), "data"), Log: s.log,
		Env: append([]string{"LOG_LEVEL=info", "LOG_FORMAT=text", "PERSIST_LINGER=10ms", "PERSIST_MAX_BACKOFF=200ms"}, env...),
	}
	t.Cleanup(func() {
		if s.Program != nil {
			s.Kill()
		}
		if t.Failed() {
			t.Logf("the end of the service's log:\n%s", s.log.tail(20))
		}
	})
	s.start()
	return s
}

// start starts the program, possibly again, on the same data directory. env applies to
// this start alone.
func (s *service) start(env ...string) {
	s.t.Helper()
	config := s.config
	config.Env = append(slices.Clone(config.Env), env...)
	var err error
	if s.Program, err = program.Start(config); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Ready(30 * time.Second); err != nil {
		s.t.Fatal(err)
	}
}

// stop stops the program as an operator does.
func (s *service) stop() {
	s.t.Helper()
	if status, err := s.Stop(30 * time.Second); err != nil || status != 0 {
		s.t.Fatalf("the stop ended with status %d (%v)", status, err)
	}
}

// verify checks the data directory of the stopped service for corruption.
func (s *service) verify() {
	s.t.Helper()
	if status, out := s.command("verify", "--data-dir", s.config.Dir); status != 0 {
		s.t.Errorf("verify reports corruption of a store that was only used through the API (status %d):\n%s", status, out)
	}
}

// command runs the command line and returns its exit status and output.
func (s *service) command(args ...string) (int, string) {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), programPath, args...)
	command.Env = append(os.Environ(), "MESSAGING_URL="+s.URL)
	out, err := command.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		s.t.Fatalf("messaging %v: %v", args, err)
	}
	return 0, string(out)
}

// try makes a call and returns its status and body.
func (s *service) try(method, path string, body any) (int, []byte, error) {
	var content io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, content)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	responseBody, err := io.ReadAll(response.Body)
	return response.StatusCode, responseBody, err
}

var client = &http.Client{Timeout: time.Minute}

// call makes a call that must succeed and decodes its response.
func call[A any](s *service, method, path string, body any) (responseBody A) {
	s.t.Helper()
	status, text, err := s.try(method, path, body)
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("%s %s returned %d %.300s (%v)", method, path, status, text, err)
	}
	if err := json.Unmarshal(text, &responseBody); err != nil {
		s.t.Fatalf("%s %s returned %.300s: %v", method, path, text, err)
	}
	return responseBody
}

// metric returns a series of /metrics; a missing series fails the test.
func (s *service) metric(series string) (value float64) {
	s.t.Helper()
	_, text, err := s.try(http.MethodGet, "/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err == nil {
				return value
			}
		}
	}
	s.t.Errorf("/metrics has no %s", series)
	return 0
}

// memory returns the peak memory of the process in bytes.
func (s *service) memory() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		s.t.Fatalf("the memory of a process cannot be read here: %v", err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		s.t.Fatal(err)
	}
	return kilobytes << 10
}

// eventually waits until ok returns true.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// lines collects a log. It is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// all returns the lines written so far.
func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.text.String(), "\n"), "\n")
}

func (l *lines) tail(n int) string {
	all := l.all()
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
