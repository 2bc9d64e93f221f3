package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

// service is a running program.
type service struct {
	url    string
	dir    string
	cmd    *exec.Cmd
	client *http.Client
}

// with runs a scenario against a new service.
func with(run func(s *service) error) (err error) {
	data, err := os.MkdirTemp(*dir, "messaging-queues.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	s := &service{url: "http://127.0.0.1:" + strconv.Itoa(*port), dir: data}
	s.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: *connections + *waiters, DisableCompression: true,
	}}
	s.cmd = exec.CommandContext(context.Background(), *program, "serve") //nolint:gosec // who runs this names the program
	s.cmd.Env = append(os.Environ(), "HTTP_PORT="+strconv.Itoa(*port), "DATA_DIR="+data+"/data", "DJANGO_API_URL=off", "LOG_LEVEL=warn",
		"MAX_CONNECTIONS="+strconv.Itoa(*waiters+*connections+1000), "MESSAGE_QUEUE_MAX_SIZE=1000000")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, s.cmd.Wait())
	}()
	for range 200 {
		if _, err := s.call(http.MethodGet, "/health/ready", "", nil); err == nil {
			return run(s)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("it does not become ready")
}

// call calls the service and reads the answer; anything but 200 is an error.
func (s *service) call(method, path, kind string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s %s", method, path, response.Status, answer)
	}
	return answer, nil
}

const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

var padding = strings.Repeat("x", 60)

// message is about 220 bytes.
func message(user int) string {
	return fmt.Sprintf(`{"conversation_id":%d,"sender_id":%d,"receiver_id":%d,"text":"Hello from the load generator %s","message_type":"text","priority":"%s","metadata":{"n":%d}}`,
		user, user+1, user, padding, [...]string{"high", "normal", "low"}[user%3], user)
}

// users is how many users messages go to.
const users = 10_000

// fill sends n messages in batches of 1,000.
func (s *service) fill(n int, user func(i int) int) error {
	for from := 0; from < n; from += 1000 {
		var lines bytes.Buffer
		for i := from; i < min(n, from+1000); i++ {
			lines.WriteString(message(user(i)))
			lines.WriteByte('\n')
		}
		if _, err := s.call(http.MethodPost, "/api/messages/batch", mediaLines, lines.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) send(worker, n int) (int, error) {
	_, err := s.call(http.MethodPost, "/api/messages/send", mediaJSON, []byte(message((worker*7919+n*104729)%users)))
	return 1, err
}

func (s *service) stat(name string) (float64, error) {
	answer, err := s.call(http.MethodGet, "/api/stats", "", nil)
	if err != nil {
		return 0, err
	}
	var stats map[string]any
	if err := json.Unmarshal(answer, &stats); err != nil {
		return 0, err
	}
	value, ok := stats[name].(float64)
	if !ok {
		return 0, fmt.Errorf("the statistics have no %s", name)
	}
	return value, nil
}

// resident is the memory of the process, in bytes.
func (s *service) resident() (int, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	kib, err := strconv.Atoi(fields[0])
	return kib << 10, err
}
