package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/valyala/fasthttp"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/traffic"
)

// Media types of requests.
const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

// ours is the name of the service's side.
const ours = "messaging"

// running holds all running services, so that an interruption can end them.
var running struct {
	sync.Mutex
	set map[*program.Program]bool
}

// endAll kills all running services.
func endAll() {
	running.Lock()
	defer running.Unlock()
	for p := range running.set {
		p.Kill()
	}
}

// service is a running service with a client.
type service struct {
	*program.Program
	config  program.Config
	client  *client
	quiesce time.Duration // see [scale]
}

// start starts the service with a data directory of that name and waits until it is
// ready. Nothing is drained unless env configures a backend.
func (s *suite) start(name string, env ...string) (*service, error) {
	return s.startProgram(s.program, name, env...)
}

func (s *suite) startProgram(path, name string, env ...string) (*service, error) {
	v := &service{quiesce: s.scale.quiesce, config: program.Config{Path: path, Dir: filepath.Join(s.work, name), Env: append([]string{
		"MESSAGE_QUEUE_MAX_SIZE=1000000", "MAX_CONNECTIONS=12000",
	}, env...)}}
	return v, v.restart()
}

// restart starts the service again on the same data.
func (v *service) restart() error {
	p, err := program.Start(v.config)
	if err != nil {
		return err
	}
	running.Lock()
	if running.set == nil {
		running.set = make(map[*program.Program]bool)
	}
	running.set[p] = true
	running.Unlock()
	v.Program, v.client = p, newClient(strings.TrimPrefix(p.URL, "http://"))
	_, err = p.Ready(5 * time.Minute)
	return err
}

// kill ends the service with SIGKILL.
func (v *service) kill() {
	v.unregister()
	v.Kill()
}

// stop ends the service with SIGTERM.
func (v *service) stop() error {
	v.unregister()
	status, err := v.Stop(time.Minute)
	if err == nil && status != 0 {
		err = fmt.Errorf("the service ended with status %d:\n%s", status, v.Log())
	}
	return err
}

func (v *service) unregister() {
	v.client.host.CloseIdleConnections()
	running.Lock()
	delete(running.set, v.Program)
	running.Unlock()
}

// with runs do on a new service and removes its data.
func (s *suite) with(name string, do func(v *service) error, env ...string) error {
	v, err := s.start(name, env...)
	if err == nil {
		err = do(v)
	}
	if v.Program != nil {
		err = errors.Join(err, v.stop())
	}
	return errors.Join(err, os.RemoveAll(v.config.Dir))
}

// client is an HTTP client with one connection per concurrent call. It is safe for
// concurrent use.
type client struct {
	base string
	host *fasthttp.HostClient
}

func newClient(address string) *client {
	return &client{base: "http://" + address, host: &fasthttp.HostClient{
		Addr: address, MaxConns: 20_000, ReadTimeout: 2 * time.Minute, WriteTimeout: 2 * time.Minute, MaxIdleConnDuration: time.Minute,
		RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
	}}
}

// call makes a call and passes the response to read, which must not keep it. Any status
// except 200 is an error.
func (c *client) call(method, path, media string, body []byte, read func(responseBody []byte) error) error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI(c.base + path)
	request.Header.SetMethod(method)
	if media != "" {
		request.Header.SetContentType(media)
		request.SetBodyRaw(body)
	}
	if err := c.host.Do(request, response); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode() != fasthttp.StatusOK {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode(), response.Body())
	}
	if read == nil {
		return nil
	}
	return read(response.Body())
}

// send sends one message.
func (c *client) send(user int) error {
	return c.call("POST", "/api/messages/send", mediaJSON, traffic.Message(user), nil)
}

// batch sends encoded messages.
func (c *client) batch(lines []byte) error {
	return c.call("POST", "/api/messages/batch", mediaLines, lines, nil)
}

// errTaken reports that a take returned an unexpected number of messages.
var errTaken = errors.New("a take returned an unexpected number of messages")

// take takes n messages of a user, which must exist.
func (c *client) take(user, n int) error {
	return c.call("GET", "/api/messages/queue/"+strconv.Itoa(user)+"?max_count="+strconv.Itoa(n), "", nil, func(responseBody []byte) error {
		if !bytes.Contains(responseBody, []byte(`"count":`+strconv.Itoa(n)+"}")) {
			return fmt.Errorf("%w: %d of user %d: …%s", errTaken, n, user, responseBody[max(0, len(responseBody)-60):])
		}
		return nil
	})
}

// fill sends n messages in batches of a thousand, from a few connections.
func (c *client) fill(n int, line func(b []byte, i int) []byte) error {
	const size, senders = 1000, 4
	failures := make(chan error, senders)
	for w := range senders {
		go func() {
			var lines []byte
			var err error
			for from := w * size; from < n && err == nil; from += senders * size {
				lines = lines[:0]
				for i := from; i < min(n, from+size); i++ {
					lines = append(line(lines, i), '\n')
				}
				err = c.batch(lines)
			}
			failures <- err
		}()
	}
	var err error
	for range senders {
		err = errors.Join(err, <-failures)
	}
	return err
}

// stat returns a figure of /api/stats.
func (c *client) stat(name string) (value float64, err error) {
	err = c.call("GET", "/api/stats", "", nil, func(responseBody []byte) error {
		var stats map[string]any
		if err := json.Unmarshal(responseBody, &stats); err != nil {
			return err
		}
		var ok bool
		if value, ok = stats[name].(float64); !ok {
			return fmt.Errorf("the statistics have no %s", name)
		}
		return nil
	})
	return value, err
}

// metric returns a figure of /metrics without labels.
func (c *client) metric(name string) (value float64, err error) {
	err = c.call("GET", "/metrics", "", nil, func(responseBody []byte) error {
		_, rest, ok := bytes.Cut(responseBody, []byte("\n"+name+" "))
		if !ok {
			return fmt.Errorf("the metrics have no %s", name)
		}
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		value, err = strconv.ParseFloat(string(line), 64)
		return err
	})
	return value, err
}

// resident returns the resident memory of a process in MiB.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib / 1024, err
}

// descriptors returns how many files a process has open.
func descriptors(pid int) (float64, error) {
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	return float64(len(list)), err
}
