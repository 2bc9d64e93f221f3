package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary builds the program once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "messaging-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "messaging")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
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

// terminate ends the program as an operator would, and gives its exit status.
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// service is the built program with what it needs.
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

// send sends and gives the id; it must succeed.
func (s *service) send(t *testing.T, conversation int, text string) string {
	t.Helper()
	status, answer := s.post("/api/messages/send", fmt.Sprintf(
		`{"conversation_id":%d,"sender_id":1,"receiver_id":789,"text":%q,"message_type":"text","priority":"normal","metadata":{}}`, conversation, text))
	if status != http.StatusOK {
		t.Fatalf("send: %d %v", status, answer)
	}
	return answer["id"].(string)
}

// django is the backend of testdata/django.
type django struct {
	*program
	dir, port, python string
}

func startDjango(t *testing.T) *django {
	t.Helper()
	python := os.Getenv("MESSAGING_TEST_PYTHON")
	if python == "" {
		out, err := exec.Command("sh", "../../testdata/python.sh").Output()
		if err != nil {
			t.Fatalf("no Python with Django REST framework: run make test, which brings it (%v)", err)
		}
		python = strings.TrimSpace(string(out))
	}
	d := &django{dir: t.TempDir(), port: freePort(t), python: python}
	if p := start(t, d.env(), python, "../../testdata/django/manage.py", "migrate", "--verbosity", "0"); p.wait() != 0 {
		t.Fatalf("migrate: %s", p.log)
	}
	d.run(t)
	return d
}

func (d *django) env() []string {
	return []string{"BACKEND_DIR=" + d.dir, "PYTHONDONTWRITEBYTECODE=1"}
}

func (d *django) url() string { return "http://127.0.0.1:" + d.port }

func (d *django) run(t *testing.T) {
	t.Helper()
	d.program = start(t, d.env(), d.python, "../../testdata/django/manage.py", "runserver", "--noreload", "127.0.0.1:"+d.port)
	eventually(t, 30*time.Second, "Django answers", func() bool {
		_, err := d.rows()
		return err == nil
	})
}

type row struct {
	UUID     string `json:"uuid"`
	Sequence uint64 `json:"sequence"`
	Text     string `json:"text"`
	Receiver string `json:"receiver_id"`
}

func (d *django) rows() (rows []row, err error) {
	response, err := http.Get(d.url() + "/rows/")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return rows, json.NewDecoder(response.Body).Decode(&rows)
}

func (d *django) outage(t *testing.T, on bool) {
	t.Helper()
	flag := filepath.Join(d.dir, "outage")
	if !on {
		if err := os.Remove(flag); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitRows waits until Django has so many rows and gives their texts.
func (d *django) waitRows(t *testing.T, n int) []string {
	t.Helper()
	var rows []row
	eventually(t, 40*time.Second, fmt.Sprintf("Django has %d rows", n), func() bool {
		rows, _ = d.rows()
		return len(rows) >= n
	})
	if len(rows) != n {
		t.Fatalf("%d rows, want %d", len(rows), n)
	}
	var list []string
	for _, r := range rows {
		list = append(list, r.Text)
	}
	return list
}

// TestEndToEndIntoARealDjango sends by HTTP and finds every message in Django,
// once and in order: through a restart of Django, a kill -9 of the service and
// a stretch of 503s. A message for a conversation that is not there becomes a
// dead letter and holds nothing up.
func TestEndToEndIntoARealDjango(t *testing.T) {
	d := startDjango(t)
	s := startService(t, "DJANGO_API_URL="+d.url(), "PERSIST_LINGER=20ms", "PERSIST_MAX_BACKOFF=500ms", "PERSIST_BATCH_SIZE=20")
	var sent []string
	send := func(n int) {
		t.Helper()
		for range n {
			text := "message " + strconv.Itoa(len(sent))
			s.send(t, 7, text)
			sent = append(sent, text)
		}
	}
	check := func(when string) {
		t.Helper()
		if got := d.waitRows(t, len(sent)); !slices.Equal(got, sent) {
			t.Fatalf("%s: rows %v, sent %v", when, got, sent)
		}
	}

	send(30)
	check("at first")

	d.kill()
	send(30)
	d.run(t)
	check("after a restart of Django")

	send(30)
	s.kill() // as kill -9
	s.start(t)
	send(10)
	check("after a kill of the service")

	d.outage(t, true)
	send(30)
	time.Sleep(300 * time.Millisecond)
	d.outage(t, false)
	check("after 503s")

	lost := s.send(t, 4242, "nowhere to go")
	send(5)
	check("beside an unknown conversation")
	eventually(t, 20*time.Second, "there is a dead letter", func() bool {
		_, answer := s.get("/api/dead-letters")
		return answer["total"] == 1.0
	})
	status, answer := s.get("/api/dead-letters/refused-" + lost)
	if status != http.StatusOK || !strings.Contains(fmt.Sprint(answer), "Conversation matching query does not exist") {
		t.Errorf("dead letter: %d %v", status, answer)
	}

	status, _ = s.post("/api/messages/broadcast", `{"message":{"sender_id":1,"text":"to all","message_type":"system"},"user_ids":[1,2,"x"]}`)
	if status != http.StatusOK {
		t.Fatalf("broadcast: %d", status)
	}
	sent = append(sent, "to all", "to all", "to all")
	check("after a broadcast")
	status, _ = s.post("/api/messages/send", `{"conversation_id":7,"sender_id":1,"receiver_id":789,"text":"known","persist":false}`)
	if status != http.StatusOK {
		t.Fatalf("send: %d", status)
	}
	send(1)
	check("with a message that Django has already")

	_, answer = s.get("/api/messages/queue/789?max_count=1000")
	if got := answer["count"].(float64); int(got) != len(sent)+2-3 {
		t.Errorf("the queue gave %v messages, want %d", got, len(sent)+2-3)
	}
	if code := s.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestRetentionEmptiesLogAndQueues(t *testing.T) {
	s := startService(t, "MESSAGE_RETENTION_DAYS=0.00002") // under two seconds
	for range 20 {
		s.send(t, 1, "old")
	}
	eventually(t, 20*time.Second, "the queue is empty", func() bool {
		_, answer := s.get("/api/stats")
		return answer["queue_messages"] == 0.0
	})
	s.send(t, 1, "new")
	_, answer := s.get("/api/messages/queue/789")
	if answer["count"] != 1.0 {
		t.Errorf("the queue gave %v", answer)
	}
	s.kill()
	s.start(t) // an emptied log opens, and goes on with its sequence
	if status, answer := s.post("/api/messages/send", `{"conversation_id":1,"sender_id":1,"receiver_id":1,"text":"x"}`); status != http.StatusOK || answer["sequence"] != 22.0 {
		t.Errorf("%d %v", status, answer)
	}
}

func TestTerminationFinishesWhatIsInFlight(t *testing.T) {
	s := startService(t, "SHUTDOWN_DELAY=300ms")
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := 0
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, _ := s.post("/api/messages/send", `{"conversation_id":1,"sender_id":1,"receiver_id":5,"text":"x"}`)
				if status == http.StatusOK {
					mu.Lock()
					acknowledged++
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, 5*time.Second, "readiness is red or the listener closed", func() bool {
		status, _ := s.get("/health/ready")
		return status != http.StatusOK
	})
	if code := s.wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	close(stop)
	wg.Wait()
	s.start(t)
	_, answer := s.get("/api/stats")
	if got := int(answer["queue_messages"].(float64)); got < acknowledged {
		t.Errorf("%d messages were acknowledged, %d are there", acknowledged, got)
	}
}
