package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/program"
)

// TestSuite runs every workload of the service at a small scale and reads the results,
// so that the harness stays usable. Workloads that need wrk are skipped if it is not
// installed.
func TestSuite(t *testing.T) {
	path, err := program.Build("")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Clean()
	empty := filepath.Join(t.TempDir(), "empty")
	if out, err := exec.Command("go", "build", "-o", empty, "../empty").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Chdir("../..") // the directory in which make runs it
	out := t.TempDir()
	c := &config{program: path, empty: empty, dir: t.TempDir(), out: out, rounds: 1, mode: "test", scale: scale{
		rounds: 1, each: 300 * time.Millisecond, warm: time.Second,
		senders: []int{1, 8}, batches: []int{100}, batched: 1, takers: []int{4}, taken: 2000, drained: 5000, receivers: []int{10, 5000},
		stored: []int{2000, 5000}, idle: []int{50},
	}}
	var chosen []workload
	_, noWrk := exec.LookPath("wrk")
	for _, w := range serviceWorkloads {
		if needsWrk := map[string]bool{"send": true, "open-loop": true, "stored": true}[w.name]; needsWrk && noWrk != nil {
			t.Logf("without %s: wrk is not installed", w.name)
			continue
		}
		if w.name != "open-loop" { // this one takes more than a second per rate
			chosen = append(chosen, w)
		}
	}
	if err := run(c, chosen, nil); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(out + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	got, err := measure.Read(files[0])
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, r := range got.Results {
		seen[r.Workload] = true
		for _, side := range r.Sides {
			for _, v := range side.Values() {
				if !(v > 0) {
					t.Errorf("%s, %s: %s has the values %v", r.Workload, r.Case, side.Name, v)
				}
			}
		}
	}
	for _, w := range chosen {
		if !seen[w.name] {
			t.Errorf("%s left no result", w.name)
		}
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) > 0 {
		t.Errorf("it left the files %v (%v)", left, err)
	}
}

// TestInterruptionKeepsResults interrupts a workload that would wait for ever.
func TestInterruptionKeepsResults(t *testing.T) {
	interrupted := make(chan os.Signal, 1)
	wait := make(chan struct{})
	c := &config{program: "/bin/true", dir: t.TempDir(), out: t.TempDir(), mode: "test", rounds: 1}
	err := run(c, []workload{
		{"first", "has a result", func(s *suite) error {
			s.keep(measure.Result{Workload: "first", Unit: "s", Sides: []measure.Side{{Name: ours, Samples: []measure.Sample{{Value: 1}}}}})
			return nil
		}},
		{"second", "waits", func(*suite) error {
			interrupted <- os.Interrupt
			time.AfterFunc(100*time.Millisecond, func() { close(wait) }) // a workload that lost its service ends later
			<-wait
			return errors.New("lost")
		}},
	}, interrupted)
	if !errors.Is(err, errInterrupted) || strings.Contains(err.Error(), "lost") {
		t.Errorf("%v", err)
	}
	if files, _ := filepath.Glob(c.out + "/*"); len(files) != 2 {
		t.Errorf("it wrote %v", files)
	}
}

func TestSinkChecksTheOrder(t *testing.T) {
	message := func(seq, conversation string) string {
		return `{"id":"x","sequence":` + seq + `,"created_at":"now","conversation_id":` + conversation + `,"text":"a"}`
	}
	for name, one := range map[string]struct {
		batches []string
		wrong   bool
	}{
		"in order":              {[]string{message("1", "5") + "," + message("2", "6"), message("3", "5")}, false},
		"between conversations": {[]string{message("2", "5"), message("1", "6")}, false},
		"within one":            {[]string{message("2", "5"), message("1", "5")}, true},
		"twice":                 {[]string{message("2", "5"), message("2", "5")}, true},
	} {
		k := &sink{last: make(map[string]uint64)}
		for _, b := range one.batches {
			k.checkOrder([]byte(b))
		}
		if (k.err != nil) != one.wrong {
			t.Errorf("%s: %v", name, k.err)
		}
	}
}

func TestReceiptsOfAResponse(t *testing.T) {
	list, n := appendReceipts(nil, []byte(`{"messages":[{"receipt":"a.1","text":"x"},{"text":"y","receipt":"b.2"}]}`))
	if string(list) != `"a.1","b.2"` || n != 2 {
		t.Errorf("%s, %d", list, n)
	}
}

func TestWorkersTakeFromTheirOwnUsers(t *testing.T) {
	owner := make(map[int]int)
	for worker := range 64 {
		for n := range 2000 {
			user := ownUser(worker, n, 64)
			if was, taken := owner[user]; taken && was != worker {
				t.Fatalf("user %d is taken from by %d and %d", user, was, worker)
			}
			owner[user] = worker
		}
	}
}

func TestSlowerInEveryRound(t *testing.T) {
	result := func(values ...float64) measure.Run {
		var this, base measure.Side
		for _, v := range values {
			this.Samples = append(this.Samples, measure.Sample{Value: v})
			base.Samples = append(base.Samples, measure.Sample{Value: 100})
		}
		this.Name, base.Name = ours, baseSide
		return measure.Run{Results: []measure.Result{{Workload: "send", Case: "64", Unit: perSecond, Sides: []measure.Side{this, base}, Goals: noSlower}}}
	}
	if err := slower(result(80, 85, 97)); err != nil {
		t.Errorf("noise is no regression: %v", err)
	}
	if err := slower(result(80, 85, 90)); !errors.Is(err, errSlower) {
		t.Errorf("%v", err)
	}
	base := filepath.Join(t.TempDir(), "x")
	if err := writeBenchmarks(base, result(80, 85)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(base + "-new.txt"); err != nil || string(text) != "BenchmarkSend/64 1 80.0 messages/s\nBenchmarkSend/64 1 85.0 messages/s\n" {
		t.Errorf("%s, %v", text, err)
	}
}
