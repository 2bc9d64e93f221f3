package measure_test

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

func sampleRun() measure.Run {
	r := result([]float64{1.5, 2, 0}, []float64{3})
	r.Goals = []measure.Goal{{Against: "b", Least: 0.5}, {Most: 3}}
	r.Size, r.SizeName, r.Note = 64, "connections", "one\n<two> & \"three\""
	r.Sides[0].Samples[0].Latency = &measure.Latency{Calls: 2, P50: 1, P90: 2, P99: 3, P999: 4, Max: 5, Curve: []measure.Point{{Part: 0.5, MS: 1}}}
	r.Sides[0].Samples[0].Series = []float64{1, 2, 3}
	return measure.Run{
		Machine: measure.Machine{
			Date: "2026-11-24T10:00:00Z", CPUs: 2, Load: [3]float64{0.1, 0.2, 0.3},
			Versions: map[string]string{"wrk": "4.1", "messaging": "1", "a": "b"},
		},
		Began: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), Took: 3*time.Minute + 4*time.Millisecond, Mode: "quick",
		Results: []measure.Result{r},
	}
}

func TestRunsAreReadAsTheyWereWritten(t *testing.T) {
	dir := t.TempDir()
	path, again := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	run := sampleRun()
	if err := run.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := measure.Read(path)
	if err != nil || !reflect.DeepEqual(got, run) {
		t.Fatalf("%v: %+v", err, got)
	}
	if err := got.Write(again); err != nil {
		t.Fatal(err)
	}
	first, second := read(t, path), read(t, again)
	if first != second {
		t.Error("the same run, other bytes")
	}
	for _, want := range []string{"\n  \"took\": \"3m0.004s\",\n", "\n      \"workload\": \"send\",\n", "}\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in it", want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Error("files are left:", entries)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRunsWithNaNFiguresAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	run := measure.Run{Results: []measure.Result{result([]float64{1, math.NaN(), math.Inf(1), math.Inf(-1)})}}
	if err := run.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := measure.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	values := got.Results[0].Sides[0].Values()
	if len(values) != 4 || values[0] != 1 || !math.IsNaN(values[1]) || !math.IsNaN(values[2]) || !math.IsNaN(values[3]) {
		t.Error(values)
	}
}

func TestFailedWriteKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	if err := os.Mkdir(path, 0o700); err != nil { // a file cannot replace a directory
		t.Fatal(err)
	}
	if err := sampleRun().Write(path); err == nil {
		t.Error("no error")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || !entries[0].IsDir() {
		t.Error(entries)
	}
}

func TestReadRejectsInvalidRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	if _, err := measure.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, text := range []string{"", "{", "[]", `{"took": "soon"}`, `{"took": 5}`, `{"results": 1}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := measure.Read(path); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestInspect(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	dir := t.TempDir()
	m, err := measure.Inspect(dir, time.Date(2026, 11, 24, 12, 0, 0, 0, time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	if m.Date != "2026-11-24T11:00:00Z" || m.CPU == "" || m.CPUs < 1 || m.Memory < 64 || m.GOMAXPROCS < 1 || !strings.HasPrefix(m.Go, "go") {
		t.Errorf("%+v", m)
	}
	if m.FileSystem == "" || m.MountOptions == "" || !strings.HasPrefix(m.Kernel, "Linux ") || m.OS == "" {
		t.Errorf("%+v", m)
	}
	if m.Append.P50 <= 0 || m.Append.P99 < m.Append.P50 || m.Overwrite.P50 <= 0 || m.Overwrite.P99 < m.Overwrite.P50 {
		t.Errorf("%+v", m)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Error("files are left:", entries)
	}
	if _, err := measure.Inspect(filepath.Join(dir, "none"), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	t.Logf("%+v", m)
}
