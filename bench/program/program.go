// Package program builds and starts the real service for rigs and benchmarks,
// on loopback, with a data directory and an environment of its own.
package program

import (
	"bytes"
	"context"
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
	built   = make(map[string]string) // tags → path
)

// Build builds the program once for each set of tags, and gives its path. The
// tag "faults" makes one that can break its promise (MESSAGING_FAULT is nosync
// or early). It is safe for concurrent use. [Clean] removes what was built.
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

// Clean removes what [Build] built; for a TestMain.
func Clean() {
	buildMu.Lock()
	defer buildMu.Unlock()
	for tags, path := range built {
		_ = os.RemoveAll(filepath.Dir(path))
		delete(built, tags)
	}
}

// Config says what to start.
type Config struct {
	// Path is the built program; empty builds it without tags.
	Path string
	// Dir is the data directory.
	Dir string
	// Port is where it listens; 0 takes a free one.
	Port int
	// Env is added to this process's environment. Unless it says otherwise
	// nothing is drained, and 1 MiB of free disk is enough.
	Env []string
	// Prefix is put before the command, such as prlimit with its arguments.
	Prefix []string
}

// Program is a running service. Its methods are safe for concurrent use.
type Program struct {
	URL  string
	PID  int
	cmd  *exec.Cmd
	log  tail
	done chan struct{}
}

// Start starts the service and returns at once; see [Program.Ready].
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
	p.cmd = exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // who runs a rig names the program
	p.cmd.Env = append(append(os.Environ(), "HTTP_PORT="+strconv.Itoa(c.Port), "DATA_DIR="+c.Dir, "DJANGO_API_URL=off", "DISK_MIN_FREE=1MiB", "LOG_LEVEL=warn"), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(command, " "), err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		_ = p.cmd.Wait() // the state says how it ended
		close(p.done)
	}()
	return p, nil
}

// Ports for programs are below those that the kernel gives to whoever asks for
// any: between the search for one and the program's own listening, another test's
// service would else take it now and then, and be taken for the program.
const (
	firstPort = 20_000
	portCount = 12_000
	portSteps = 97 // between those of processes that were started one after the other
)

var portsFound atomic.Int64

// ErrNoPort says that no port is free.
var ErrNoPort = errors.New("no port is free for a program")

// FreePort finds a port on loopback that nobody listens on. It gives another one
// each time.
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

// ErrEnded says that the service ended by itself.
var ErrEnded = errors.New("the service ended")

// Ready waits until the service answers that it is ready, and gives how long
// that took from now. It is [ErrEnded] if it ends first.
func (p *Program) Ready(within time.Duration) (time.Duration, error) {
	began := time.Now()
	client := &http.Client{Timeout: 5 * time.Second}
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

// Kill ends the service as kill -9 does, and waits until it is gone.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the service as an operator does, and gives its exit status; one that
// does not end in time is killed and an error.
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

// Done is closed when the service has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// ExitStatus is how it ended, after [Program.Done].
func (p *Program) ExitStatus() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Log is the end of what the service has written.
func (p *Program) Log() string { return p.log.String() }

// tail keeps the last 64 KiB or so that were written to it.
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
