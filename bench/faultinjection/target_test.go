package faultinjection_test

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

// target is the real service under load, observed from outside.
type target struct {
	*torture.Round
	*program.Program

	client *http.Client
	token  string // of its client; empty for none
}

// startTarget starts a service on an empty directory. At the end of the round it is
// stopped and must exit by itself.
func startTarget(r *torture.Round, config program.Config) *target {
	r.Helper()
	return startTargetAs(r, config, "")
}

// startTargetAs is startTarget with the token of the client.
func startTargetAs(r *torture.Round, config program.Config, token string) *target {
	r.Helper()
	config.Dir = filepath.Join(r.TempDir(), "data")
	p, err := program.Start(config)
	if err != nil {
		r.Fatal(err)
	}
	v := &target{Round: r, Program: p, token: token}
	v.client = &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256, TLSClientConfig: p.TLS},
	}
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

// call makes a JSON request and reads the response. It returns an error if there was no
// response. It is safe for concurrent use.
func (v *target) call(method, path string, body []byte) (status int, header http.Header, responseBody []byte, err error) {
	request, err := http.NewRequest(method, v.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	if v.token != "" {
		request.Header.Set("Authorization", "Bearer "+v.token)
	}
	response, err := v.client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	responseBody, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header, responseBody, err
}

// must makes a call that has to return 200.
func (v *target) must(method, path string, body []byte) []byte {
	v.Helper()
	status, _, responseBody, err := v.call(method, path, body)
	if err != nil || status != http.StatusOK {
		v.Fatalf("%s %s: %d %.200s (%v)\n%s", method, path, status, responseBody, err, v.Log())
	}
	return responseBody
}

// metrics returns the series without labels.
func (v *target) metrics() map[string]float64 {
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

// goroutines returns how many goroutines the service has.
func (v *target) goroutines() int {
	v.Helper()
	var stats struct {
		Processes int `json:"process_count"`
	}
	if err := json.Unmarshal(v.must(http.MethodGet, "/api/stats", nil), &stats); err != nil {
		v.Fatal(err)
	}
	return stats.Processes
}

// descriptors returns how many files and connections the service has open.
func (v *target) descriptors() int {
	v.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", v.PID))
	if err != nil {
		v.Skipf("the descriptors of a process cannot be read here: %v", err)
	}
	return len(open)
}

// resident and peak return the current and the peak memory of the service in bytes.
func (v *target) resident() int64 { v.Helper(); return v.memory("VmRSS") }
func (v *target) peak() int64     { v.Helper(); return v.memory("VmHWM") }

func (v *target) memory(line string) int64 {
	v.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.PID))
	if err != nil {
		v.Skipf("the memory of a process cannot be read here: %v", err)
	}
	_, after, _ := strings.Cut(string(status), line+":")
	var kilobytes int64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		v.Fatalf("no %s of process %d: %v", line, v.PID, err)
	}
	return kilobytes << 10
}

// waitAtMost waits until a figure of the service is at most most.
func (v *target) waitAtMost(what string, within time.Duration, most int, figure func() int) {
	v.Helper()
	var last int
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = figure(); last <= most {
			return
		}
	}
	v.Errorf("%s: %d after %s, want at most %d", what, last, within, most)
}

// latencies are durations of calls.
type latencies []time.Duration

// percentile returns the p-th percentile.
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

// mebibytes converts bytes to MiB.
func mebibytes(n int64) int64 { return n >> 20 }
