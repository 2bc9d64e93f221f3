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
			return fmt.Errorf("look at the machine: %w", err)
		}
	}
	return nil
}

// field gives the value of the first line "name: value", or "name=value", of a
// file of the system.
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
	if model != "" { // not every architecture says
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

// text is a string of C.
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

// mount is what a line of mountinfo says: the device as major:minor, the kind of
// file system and the options.
type mount struct{ number, kind, options string }

// mountOf finds the mount that a directory is on: the one with the longest path,
// and of several on one another the last one.
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

// octal undoes how mountinfo writes the characters that would break its lines.
var octal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func within(point, dir string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// options joins those of the mount and of the file system, each once, without
// those that name a path or an address.
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

// timeSyncs writes 8 KiB and syncs them, over and over: at the end of a file that
// grows, or inside one that was written before.
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
