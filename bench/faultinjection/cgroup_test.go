package faultinjection_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stayafrica/messaging/bench/torture"
)

// cgroup is a control group that limits the memory of the service. It is a child of the
// test's own group, so all other limits stay in force.
type cgroup struct {
	dir   string
	usage string // the file with the peak usage
}

// newCgroup creates a control group, version 1 or 2, with a memory limit. The error
// says what the machine does not support.
func newCgroup(r *torture.Round, limit int64) (*cgroup, error) {
	r.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	parent, first := memoryController(string(own))
	g := &cgroup{dir: filepath.Join(parent, fmt.Sprintf("messaging-rig-%d-%d", os.Getpid(), r.Number)), usage: "memory.peak"}
	bound := "memory.max"
	if first {
		bound, g.usage = "memory.limit_in_bytes", "memory.max_usage_in_bytes"
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	r.Cleanup(func() { _ = os.Remove(g.dir) }) // the group is empty once the service has ended
	if err := os.WriteFile(filepath.Join(g.dir, bound), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
		return nil, errors.Join(err, os.Remove(g.dir))
	}
	return g, nil
}

// memoryController finds the directory of the control group that limits this process's
// memory. first reports cgroup version 1.
func memoryController(own string) (dir string, first bool) {
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && parts[1] == "memory" {
			return filepath.Join("/sys/fs/cgroup/memory", parts[2]), true
		}
		if len(parts) == 3 && parts[1] == "" {
			dir = filepath.Join("/sys/fs/cgroup", parts[2])
		}
	}
	return dir, false
}

// prefix returns the command prefix that starts a command in the group.
func (g *cgroup) prefix() []string {
	return []string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, g.dir}
}

// peak returns the peak memory of the group in bytes, including the page cache, which
// the kernel reclaims before it kills a process.
func (g *cgroup) peak() int64 {
	text, err := os.ReadFile(filepath.Join(g.dir, g.usage))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
