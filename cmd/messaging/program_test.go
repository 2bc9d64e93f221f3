package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	built "github.com/stayafrica/messaging/bench/program"
)

// binary builds the program once for all tests.
func binary() (string, error) { return built.Build("") }

func TestMain(m *testing.M) {
	status := m.Run()
	built.Clean()
	os.Exit(status)
}

// program is a started process that the test waits for.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
	err  error
}

func start(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(name, args...), log: &bytes.Buffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), p.log)
		}
	})
	return p
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate stops the program with SIGTERM and returns its exit status.
func (p *program) terminate() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait()
}

func (p *program) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatal("it did not end within 30 seconds")
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return exit.ExitCode()
	}
	return 0
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := built.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// service is the running program with its address and environment.
type service struct {
	*program
	url string
	env []string
}

func startService(t *testing.T, env ...string) *service {
	t.Helper()
	s := &service{env: append([]string{"HTTP_PORT=" + freePort(t), "DATA_DIR=" + t.TempDir(), "DJANGO_API_URL=off", "DISK_MIN_FREE=1MiB"}, env...)}
	s.url = "http://127.0.0.1:" + strings.TrimPrefix(s.env[0], "HTTP_PORT=")
	s.start(t)
	return s
}

func (s *service) start(t *testing.T) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s.program = start(t, s.env, path, "serve")
	eventually(t, 20*time.Second, "the service is ready", func() bool {
		select {
		case <-s.done:
			t.Fatalf("the service ended: %s", s.log)
		default:
		}
		status, _ := s.get("/health/ready")
		return status == http.StatusOK
	})
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func (s *service) get(path string) (int, map[string]any) { return call(http.MethodGet, s.url+path, "") }

func (s *service) post(path, body string) (int, map[string]any) {
	return call(http.MethodPost, s.url+path, body)
}

func call(method, url, body string) (int, map[string]any) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	var answer map[string]any
	text, _ := io.ReadAll(response.Body)
	_ = json.Unmarshal(text, &answer)
	return response.StatusCode, answer
}

// send sends a message, which must succeed, and returns its id.
func (s *service) send(t *testing.T, conversation int, text string) string {
	t.Helper()
	status, answer := s.post("/api/messages/send", fmt.Sprintf(
		`{"conversation_id":%d,"sender_id":1,"receiver_id":789,"text":%q,"message_type":"text","priority":"normal","metadata":{}}`, conversation, text))
	if status != http.StatusOK {
		t.Fatalf("send: %d %v", status, answer)
	}
	return answer["id"].(string)
}
