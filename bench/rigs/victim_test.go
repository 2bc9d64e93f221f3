package rigs_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
)

// victim is the real service under a load, and what can be seen of it from
// outside.
type victim struct {
	*torture.Round
	*program.Program

	client *http.Client
}

// startVictim starts a service on an empty directory; it is stopped, and must
// stop by itself, at the end of the round.
func startVictim(r *torture.Round, config program.Config) *victim {
	r.Helper()
	config.Dir = filepath.Join(r.TempDir(), "data")
	p, err := program.Start(config)
	if err != nil {
		r.Fatal(err)
	}
	v := &victim{Round: r, Program: p, client: &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256},
	}}
	r.Cleanup(func() {
		v.client.CloseIdleConnections()
		if status, err := p.Stop(30 * time.Second); err != nil || status != 0 {
			r.Errorf("the service ended with status %d (%v)\n%s", status, err, p.Log())
		}
	})
	if _, err := p.Ready(30 * time.Second); err != nil {
		r.Fatal(err)
	}
	return v
}

// call makes a request of JSON and reads its answer. It is safe for concurrent
// use, and an error where there was no answer.
func (v *victim) call(method, path string, body []byte) (status int, header http.Header, answer []byte, err error) {
	request, err := http.NewRequest(method, v.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := v.client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header, answer, err
}

// must makes a call that has to be answered with 200.
func (v *victim) must(method, path string, body []byte) []byte {
	v.Helper()
	status, _, answer, err := v.call(method, path, body)
	if err != nil || status != http.StatusOK {
		v.Fatalf("%s %s: %d %.200s (%v)\n%s", method, path, status, answer, err, v.Log())
	}
	return answer
}

// metrics gives the series that have no labels.
func (v *victim) metrics() map[string]float64 {
	v.Helper()
	series := make(map[string]float64)
	lines := bufio.NewScanner(bytes.NewReader(v.must(http.MethodGet, "/metrics", nil)))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			series[name] = value
		}
	}
	return series
}

// goroutines is how many goroutines the service has.
func (v *victim) goroutines() int {
	v.Helper()
	var stats struct {
		Processes int `json:"process_count"`
	}
	if err := json.Unmarshal(v.must(http.MethodGet, "/api/stats", nil), &stats); err != nil {
		v.Fatal(err)
	}
	return stats.Processes
}

// descriptors is how many files and connections the service has open.
func (v *victim) descriptors() int {
	v.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", v.PID))
	if err != nil {
		v.Skipf("this machine does not show the descriptors of a process: %v", err)
	}
	return len(open)
}

// resident and peak are how much memory the service has, and had at most, in
// bytes.
func (v *victim) resident() int64 { v.Helper(); return v.memory("VmRSS") }
func (v *victim) peak() int64     { v.Helper(); return v.memory("VmHWM") }

func (v *victim) memory(line string) int64 {
	v.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.PID))
	if err != nil {
		v.Skipf("this machine does not show the memory of a process: %v", err)
	}
	_, after, _ := strings.Cut(string(status), line+":")
	var kilobytes int64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		v.Fatalf("no %s of process %d: %v", line, v.PID, err)
	}
	return kilobytes << 10
}

// settles waits until a figure of the service is at most so high.
func (v *victim) settles(what string, within time.Duration, most int, figure func() int) {
	v.Helper()
	var last int
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = figure(); last <= most {
			return
		}
	}
	v.Errorf("%s: %d after %s, want at most %d", what, last, within, most)
}

// latencies are how long calls took.
type latencies []time.Duration

// percentile gives how long the quickest p of a hundred took at most.
func (l latencies) percentile(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Clone(l)
	slices.Sort(sorted)
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

func (l latencies) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, of %d", l.percentile(50).Round(10*time.Microsecond), l.percentile(99).Round(10*time.Microsecond), len(l))
}

// mebibytes is a number of bytes for eyes.
func mebibytes(n int64) int64 { return n >> 20 }
