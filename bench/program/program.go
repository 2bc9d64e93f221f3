// Package program builds and starts the real service for tests and benchmarks, on
// loopback, with its own data directory and environment.
package program

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	buildMu sync.Mutex
	built   = make(map[string]string) // path by tags
)

// Build builds the program once per set of tags and returns its path. The tag "faults"
// builds a program that can break its guarantees (MESSAGING_FAULT is nosync or early).
// [Clean] removes the builds. Build is safe for concurrent use.
func Build(tags string) (string, error) {
	buildMu.Lock()
	defer buildMu.Unlock()
	if path, ok := built[tags]; ok {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "messaging-program-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "messaging")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-tags", tags, "-o", path,
		"github.com/stayafrica/messaging/cmd/messaging").CombinedOutput()
	if err != nil {
		return "", errors.Join(fmt.Errorf("build the program: %w: %s", err, out), os.RemoveAll(dir))
	}
	built[tags] = path
	return path, nil
}

// Clean removes what [Build] built. Call it in TestMain.
func Clean() {
	buildMu.Lock()
	defer buildMu.Unlock()
	for tags, path := range built {
		_ = os.RemoveAll(filepath.Dir(path))
		delete(built, tags)
	}
}

// Config configures a process.
type Config struct {
	// Path is the built program; empty builds it without tags.
	Path string
	// Dir is the data directory.
	Dir string
	// Port is the port to listen on; 0 selects a free one.
	Port int
	// Env is added to this process's environment. By default nothing is drained, and 1
	// MiB of free disk is enough.
	Env []string
	// Prefix is a command prefix, such as prlimit with its arguments.
	Prefix []string
	// Certificate makes the service speak TLS; nil is plain HTTP.
	Certificate *Certificate
	// Log receives the whole output of the service, if not nil; see [Program.Log] for
	// the end of the output.
	Log io.Writer
}

// Program is a running service. Its methods are safe for concurrent use.
type Program struct {
	URL  string
	TLS  *tls.Config // of its clients; nil for plain HTTP
	PID  int
	cmd  *exec.Cmd
	log  tail
	done chan struct{}
}

// Start starts the service without waiting for it; see [Program.Ready].
func Start(c Config) (*Program, error) {
	var err error
	if c.Path == "" {
		if c.Path, err = Build(""); err != nil {
			return nil, err
		}
	}
	if c.Port == 0 {
		if c.Port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	command := append(append([]string(nil), c.Prefix...), c.Path, "serve")
	p := &Program{URL: "http://127.0.0.1:" + strconv.Itoa(c.Port), done: make(chan struct{})}
	if c.Certificate != nil {
		p.URL = "https://127.0.0.1:" + strconv.Itoa(c.Port)
		p.TLS = c.Certificate.Client()
		c.Env = append(c.Certificate.env(), c.Env...)
	}
	p.cmd = exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // who runs a rig names the program
	p.cmd.Env = append(append(os.Environ(), "HTTP_PORT="+strconv.Itoa(c.Port), "DATA_DIR="+c.Dir, "DJANGO_API_URL=off", "DISK_MIN_FREE=1MiB",
		"LOG_LEVEL=warn"), c.Env...)
	var log io.Writer = &p.log
	if c.Log != nil {
		log = io.MultiWriter(log, c.Log)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(command, " "), err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		_ = p.cmd.Wait() // ProcessState says how it ended
		close(p.done)
	}()
	return p, nil
}

// The ports for programs are below the kernel's ephemeral ports. Otherwise the service
// of another test could be assigned a port between the search and the program's listen,
// and be mistaken for the program.
const (
	firstPort = 20_000
	portCount = 12_000
	portSteps = 97 // between the ports of processes started one after the other
)

var portsFound atomic.Int64

// ErrNoPort reports that no port is free.
var ErrNoPort = errors.New("no port is free for a program")

// FreePort finds a loopback port without a listener. It returns a different one each
// time.
func FreePort() (int, error) {
	var err error
	for range portCount {
		port := firstPort + (os.Getpid()*portSteps+int(portsFound.Add(1)))%portCount
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("%w: %w", ErrNoPort, err)
}

// ErrEnded reports that the service ended by itself.
var ErrEnded = errors.New("the service ended")

// Ready waits until the service reports that it is ready, and returns how long the wait
// took. It returns [ErrEnded] if the service ends first.
func (p *Program) Ready(within time.Duration) (time.Duration, error) {
	began := time.Now()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: p.TLS}}
	defer client.CloseIdleConnections()
	for time.Since(began) < within {
		select {
		case <-p.done:
			return 0, fmt.Errorf("%w with status %d:\n%s", ErrEnded, p.cmd.ProcessState.ExitCode(), p.Log())
		default:
		}
		if status(client, p.URL+"/health/ready") == http.StatusOK {
			return time.Since(began), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, fmt.Errorf("the service is not ready after %s:\n%s", within, p.Log()) //nolint:err113 // a rig's report
}

func status(client *http.Client, url string) int {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0
	}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// Kill ends the service with SIGKILL and waits for its end.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the service with SIGTERM and returns its exit status. It kills a service
// that does not end in time, which is an error.
func (p *Program) Stop(within time.Duration) (int, error) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(within):
		p.Kill()
		return -1, fmt.Errorf("the service did not stop within %s:\n%s", within, p.Log()) //nolint:err113 // a rig's report
	}
}

// Done returns a channel that is closed when the service has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// ExitStatus waits for the end and returns the exit status.
func (p *Program) ExitStatus() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Log returns the end of the service's output.
func (p *Program) Log() string { return p.log.String() }

// tail keeps about the last 64 KiB written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailBytes = 64 << 10

// Write implements [io.Writer].
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() > 2*tailBytes {
		t.buf.Next(t.buf.Len() - tailBytes)
	}
	return t.buf.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
