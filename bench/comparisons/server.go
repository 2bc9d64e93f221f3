package comparisons

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stayafrica/messaging/bench/program"
)

// find returns the path of a command: in the directories given first, in PATH, or where
// Debian installs servers. If it is missing, the error names the package that provides
// it.
func find(name, bringer string, first ...string) (string, error) {
	candidates := []string{name, filepath.Join("/usr/sbin", name)}
	for i, dir := range first {
		candidates = slices.Insert(candidates, i, filepath.Join(dir, name))
	}
	for _, candidate := range candidates {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w (provided by %s)", name, ErrAbsent, bringer)
}

var versionLike = regexp.MustCompile(`\d+\.\d+(\.\d+)*`)

// versionOf runs a command to get its version.
func versionOf(path, flag string) (string, error) {
	out, err := exec.CommandContext(context.Background(), path, flag).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", path, flag, err, out)
	}
	version := versionLike.Find(out)
	if version == nil {
		return "", fmt.Errorf("%s %s printed no version: %s", path, flag, out)
	}
	return string(version), nil
}

// account is a user of the operating system that a server runs as.
type account struct{ uid, gid uint32 }

// command is a command to run.
type command struct {
	path string
	args []string
	dir  string
	env  []string // added to this process's environment
	as   *account // nil for this process's user
	log  string   // a file
}

func (c command) prepare() *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), c.path, c.args...) //nolint:gosec // a path from find
	cmd.Dir, cmd.Env, cmd.SysProcAttr = c.dir, append(os.Environ(), c.env...), attributes(c.as)
	return cmd
}

// run runs a command to its end and returns its output.
func run(c command) ([]byte, error) {
	cmd := c.prepare()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", filepath.Base(c.path), err, out.Bytes(), log.Bytes())
	}
	return out.Bytes(), nil
}

// server is a running process of a system. It dies with this process. The methods of a
// nil server do nothing.
type server struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start starts a server that logs to a file; see [server.ready].
func start(c command) (*server, error) {
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &server{cmd: c.prepare(), log: c.log, done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	go func() {
		_ = s.cmd.Wait() // ProcessState says how it ended
		close(s.done)
	}()
	return s, nil
}

// ready waits until the probe succeeds.
func (s *server) ready(within time.Duration, probe func() error) error {
	var err error
	for began := time.Now(); time.Since(began) < within; time.Sleep(10 * time.Millisecond) {
		select {
		case <-s.done:
			return fmt.Errorf("%s ended, %s:\n%s", s.cmd.Path, s.cmd.ProcessState, s.tail())
		default:
		}
		if err = probe(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not serve within %s: %w\n%s", s.cmd.Path, within, err, s.tail())
}

// stop sends a signal to the server and waits for its end. It kills a server that takes
// too long, which is an error.
func (s *server) stop(signal syscall.Signal) error {
	if s == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.done:
		return nil
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("%s had to be killed:\n%s", s.cmd.Path, s.tail())
	}
}

// tail returns the end of the server's log.
func (s *server) tail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4<<10):])
}

// address returns a loopback address.
func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// accepts returns a probe that succeeds when a server accepts connections at an
// address.
func accepts(addr string) func() error {
	return func() error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// serve starts a server that needs one command and one port, and returns its version.
// args returns the arguments for the port.
func serve(c command, versionFlag string, args func(port int) []string) (s *server, addr, version string, err error) {
	if version, err = versionOf(c.path, versionFlag); err != nil {
		return nil, "", "", err
	}
	port, err := program.FreePort()
	if err != nil {
		return nil, "", "", err
	}
	c.args = args(port)
	if s, err = start(c); err != nil {
		return nil, "", "", err
	}
	if err := s.ready(20*time.Second, accepts(address(port))); err != nil {
		return nil, "", "", errors.Join(err, s.stop(syscall.SIGTERM))
	}
	return s, address(port), version, nil
}

// moduleBin returns the bin directory of this module, where `make bench-deps` installs
// servers that Debian does not package. The working directory must be in the module.
func moduleBin() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; !strings.HasSuffix(dir, string(filepath.Separator)); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "bin")
		}
	}
	return ""
}
