package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (m *Machine) inspect(dir string) error {
	for _, look := range []func() error{m.processor, m.memory, m.system, m.load, func() error { return m.disk(dir) }} {
		if err := look(); err != nil {
			return fmt.Errorf("inspect the machine: %w", err)
		}
	}
	return nil
}

// field returns the value of the first line "name: value", or "name=value", of a system
// file.
func field(path, name, separator string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		key, value, found := strings.Cut(line, separator)
		if found && strings.TrimSpace(key) == name {
			return strings.Trim(strings.TrimSpace(value), `"`), nil
		}
	}
	return "", nil
}

func (m *Machine) processor() error {
	model, err := field("/proc/cpuinfo", "model name", ":")
	if model != "" { // not every architecture has it
		m.CPU = model
	}
	return err
}

func (m *Machine) memory() error {
	total, err := field("/proc/meminfo", "MemTotal", ":")
	if err != nil {
		return err
	}
	kib, err := strconv.ParseInt(strings.TrimSuffix(total, " kB"), 10, 64)
	m.Memory = kib / 1024
	return err
}

func (m *Machine) system() error {
	var names unix.Utsname
	if err := unix.Uname(&names); err != nil {
		return err
	}
	m.Kernel = fmt.Sprintf("%s %s %s", text(names.Sysname[:]), text(names.Release[:]), text(names.Machine[:]))
	name, err := field("/etc/os-release", "PRETTY_NAME", "=")
	if name != "" {
		m.OS = name
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// text converts a C string.
func text(c []byte) string {
	before, _, _ := bytes.Cut(c, []byte{0})
	return string(before)
}

func (m *Machine) load() error {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	_, err = fmt.Sscan(string(text), &m.Load[0], &m.Load[1], &m.Load[2])
	return err
}

func (m *Machine) disk(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	on := mountOf(string(mounts), dir)
	m.FileSystem, m.MountOptions = on.kind, on.options
	m.Device, _ = field("/sys/dev/block/"+on.number+"/uevent", "DEVNAME", "=") // only block devices have one
	if m.Append, err = timeSyncs(dir, false); err != nil {
		return err
	}
	m.Overwrite, err = timeSyncs(dir, true)
	return err
}

// mount is a line of mountinfo: the device as major:minor, the file system and the
// options.
type mount struct{ number, kind, options string }

// mountOf finds the mount of a directory: the one with the longest path, and the last
// one of several with that path.
func mountOf(mountinfo, dir string) mount {
	var found mount
	longest := -1
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(rest) < 3 {
			continue
		}
		point := octal.Replace(fields[4])
		if len(point) < longest || !within(point, dir) {
			continue
		}
		longest = len(point)
		found = mount{number: fields[2], kind: rest[0], options: options(fields[5], rest[2])}
	}
	return found
}

// octal decodes the characters that mountinfo escapes.
var octal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func within(point, dir string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// options merges the options of the mount and of the file system, each once, without
// those that contain a path or an address.
func options(lists ...string) string {
	var all []string
	seen := map[string]bool{}
	for option := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		name, _, _ := strings.Cut(option, "=")
		if seen[option] || strings.Contains(option, "/") || strings.HasSuffix(name, "addr") {
			continue
		}
		seen[option] = true
		all = append(all, option)
	}
	return strings.Join(all, ",")
}

const (
	syncs    = 200
	syncSize = 8 << 10
)

// timeSyncs repeatedly writes 8 KiB with an fdatasync: at the end of a growing file, or
// within an existing one.
func timeSyncs(dir string, overwrite bool) (Sync, error) {
	file, err := os.CreateTemp(dir, "sync-*.tmp")
	if err != nil {
		return Sync{}, err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	defer func() { _ = file.Close() }()
	if overwrite {
		if _, err := file.Write(make([]byte, syncs*syncSize)); err != nil {
			return Sync{}, err
		}
	}
	if err := file.Sync(); err != nil {
		return Sync{}, err
	}
	block := bytes.Repeat([]byte{0xa5}, syncSize)
	took := NewLatencies()
	for i := range int64(syncs) {
		began := time.Now()
		if _, err := file.WriteAt(block, i*syncSize); err != nil {
			return Sync{}, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return Sync{}, err
		}
		took.Record(time.Since(began))
	}
	return Sync{P50: took.At(0.5) * 1000, P99: took.At(0.99) * 1000}, nil
}
