package measure

import (
	"runtime"
	"time"
)

// Machine describes a machine so that runs can be compared. It does not identify the
// machine: no host name, no path.
type Machine struct {
	Date   string `json:"date"` // RFC 3339, UTC
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_mib"`
	Kernel string `json:"kernel"`
	OS     string `json:"os"`
	// FileSystem, MountOptions and Device are those of the data directory. Device is
	// the kernel's name, such as vda1, and empty without a block device.
	FileSystem   string `json:"file_system"`
	MountOptions string `json:"mount_options"`
	Device       string `json:"device"`
	Go           string `json:"go"`
	GOMAXPROCS   int    `json:"gomaxprocs"`
	// Append is the time to append 8 KiB to a file in that directory with an fdatasync.
	// Overwrite is the same in place, without a change of size.
	Append    Sync `json:"append_8_kib"`
	Overwrite Sync `json:"overwrite_8_kib"`
	// Load is the load average over 1, 5 and 15 minutes before the run.
	Load [3]float64 `json:"load_average"`
	// Versions are the versions of the measured programs and of the tools, by name. The
	// caller sets them. The revision of a modified tree ends in "-dirty".
	Versions map[string]string `json:"versions,omitempty"`
}

// Sync is the distribution of synced write times in microseconds.
type Sync struct {
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// Inspect describes the machine and the file system of a directory, in which it
// temporarily writes a few MiB. Call it before the run, while the load average does not
// include the run. On systems other than Linux most fields are empty.
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
