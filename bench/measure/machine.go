package measure

import (
	"runtime"
	"time"
)

// Machine is what a reader must know of the machine to compare a run with
// another one. It does not say whose machine it is: no host name, no path.
type Machine struct {
	Date   string `json:"date"` // RFC 3339, UTC
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_mib"`
	Kernel string `json:"kernel"`
	OS     string `json:"os"`
	// FileSystem, MountOptions and Device are those of the directory with the data;
	// Device is the kernel's name, such as vda1, and empty without a block device.
	FileSystem   string `json:"file_system"`
	MountOptions string `json:"mount_options"`
	Device       string `json:"device"`
	Go           string `json:"go"`
	GOMAXPROCS   int    `json:"gomaxprocs"`
	// Append is how long it took to append 8 KiB to a file in that directory and to
	// fdatasync it; Overwrite is the same in place, where no size changes.
	Append    Sync `json:"append_8_kib"`
	Overwrite Sync `json:"overwrite_8_kib"`
	// Load is the load average over 1, 5 and 15 minutes, before the run.
	Load [3]float64 `json:"load_average"`
	// Versions are those of what was measured and of what measured it, by name. The
	// caller puts them in; the revision of a tree with changes ends in "-dirty".
	Versions map[string]string `json:"versions,omitempty"`
}

// Sync is how long writes took until they were on the disk, in microseconds.
type Sync struct {
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// Inspect looks at the machine, and at the file system of the directory, in which
// it writes a few MiB for a moment. Call it before the run, while the load average
// is still that of others. Away from Linux it knows little, and says so by leaving
// fields empty.
func Inspect(dir string, now time.Time) (Machine, error) {
	m := Machine{
		Date:       now.UTC().Format(time.RFC3339),
		CPU:        runtime.GOARCH,
		CPUs:       runtime.NumCPU(),
		OS:         runtime.GOOS,
		Go:         runtime.Version(),
		GOMAXPROCS: runtime.GOMAXPROCS(0),
	}
	return m, m.inspect(dir)
}
