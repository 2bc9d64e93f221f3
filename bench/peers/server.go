package peers

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

// find gives the path of a command: in the directories that come first, in PATH,
// or where Debian puts servers. Without it the error says what brings it.
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
	return "", fmt.Errorf("%s: %w (%s brings it)", name, ErrAbsent, bringer)
}

var versionLike = regexp.MustCompile(`\d+\.\d+(\.\d+)*`)

// versionOf asks a command for its version.
func versionOf(path, flag string) (string, error) {
	out, err := exec.CommandContext(context.Background(), path, flag).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", path, flag, err, out)
	}
	version := versionLike.Find(out)
	if version == nil {
		return "", fmt.Errorf("%s %s gives no version: %s", path, flag, out)
	}
	return string(version), nil
}

// account is a user of the system, as which a server runs.
type account struct{ uid, gid uint32 }

// command is what to run.
type command struct {
	path string
	args []string
	dir  string
	env  []string // added to this process's
	as   *account // nil for this process's
	log  string   // a file
}

func (c command) prepare() *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), c.path, c.args...) //nolint:gosec // a path from find
	cmd.Dir, cmd.Env, cmd.SysProcAttr = c.dir, append(os.Environ(), c.env...), attributes(c.as)
	return cmd
}

// run runs a command to its end, and gives what it wrote.
func run(c command) ([]byte, error) {
	cmd := c.prepare()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", filepath.Base(c.path), err, out.Bytes(), log.Bytes())
	}
	return out.Bytes(), nil
}

// server is a running process of a peer. It dies with this process. The methods
// of a nil one do nothing.
type server struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start starts a server, which writes its log to a file; see [server.ready].
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
		_ = s.cmd.Wait() // the state says how it ended
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

// stop ends the server by a signal and waits for it; one that takes too long is
// killed, which is an error.
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

// tail is the end of what the server has written.
func (s *server) tail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4<<10):])
}

// address is a port of loopback.
func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// answers is a probe: does somebody listen there.
func answers(addr string) func() error {
	return func() error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// serve starts a server for which one command and one port are enough, and gives
// its version. args gives the arguments for the port.
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
	if err := s.ready(20*time.Second, answers(address(port))); err != nil {
		return nil, "", "", errors.Join(err, s.stop(syscall.SIGTERM))
	}
	return s, address(port), version, nil
}

// moduleBin is the bin directory of this module, where `make bench-deps` installs
// what no package has: the working directory is the module's or below.
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
