package main_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/bench/archive"
)

// dumpedJob is a line of `dump --jobs --json`.
type dumpedJob struct {
	Kind, ID, State string
	Position        *struct{ Sequence, Receiver uint64 }
	Done, Total     uint64
	Body            map[string]any
}

func dumpedJobs(t *testing.T, dir string) (jobs []dumpedJob) {
	t.Helper()
	out, status := tool(t, "dump", "--jobs", "--json", "--data-dir", dir)
	if status != 0 {
		t.Fatalf("dump --jobs ends with %d:\n%s", status, out)
	}
	for line := range strings.Lines(out) {
		var job dumpedJob
		if err := json.Unmarshal([]byte(line), &job); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		jobs = append(jobs, job)
	}
	return jobs
}

// TestCommandsReadAStoreOfFormat1AsOneOfToday: the upgrade at the first start does not
// change the output of dump, verify and drain skip.
func TestCommandsReadAStoreOfFormat1AsOneOfToday(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := archive.Unpack("../../testdata/format1/store.tar.gz", dir); err != nil {
		t.Fatal(err)
	}
	contains := func(args string, want ...string) string {
		t.Helper()
		out, status := tool(t, append(strings.Fields(args), "--data-dir", dir)...)
		for _, w := range want {
			if status != 0 || !strings.Contains(out, w) {
				t.Errorf("%s ends with %d, and does not print %q:\n%s", args, status, w, out)
			}
		}
		return out
	}
	var letters [2]string
	var jobs [2][]dumpedJob
	for i, format := range []string{"1", "2"} {
		verified := contains("verify", "format           "+format, "dead letters     12", "problems         0")
		if tells := strings.Contains(verified, "the next start upgrades the store to format 2"); tells != (i == 0) {
			t.Errorf("verify of format %s:\n%s", format, verified)
		}
		contains("drain skip --to now", "5 messages wait")
		contains("dump --jobs", "PROGRESS", "drain ", "at 77", "1 of 1, 1 failed", "cancelled", `{"ID":"01a2234f-11b5-765d`)
		contains("dump --dead-letters", "undeliverable-15291beb-1fa6-89e2-8972-0a0b33d84d57", "3 users", "nobody acknowledged it in 2 deliveries")
		contains("repair --yes", "nothing was changed")
		letters[i], jobs[i] = contains("dump --dead-letters --json"), dumpedJobs(t, dir)
		if i == 0 {
			s := startService(t, "DATA_DIR="+dir, "DJANGO_API_URL=http://127.0.0.1:9", "MESSAGE_RETENTION_DAYS=36500")
			if status := s.terminate(); status != 0 {
				t.Fatalf("it stopped with %d", status)
			}
			if log := s.log.String(); !strings.Contains(log, "the store was upgraded") {
				t.Errorf("the start does not log the upgrade:\n%s", log)
			}
		}
	}
	if letters[0] != letters[1] || strings.Count(letters[0], "\n") != 12 {
		t.Errorf("dead letters before the upgrade:\n%s\nand after it:\n%s", letters[0], letters[1])
	}
	if len(jobs[0]) != 6 || len(jobs[1]) != 6 {
		t.Fatalf("%d jobs before the upgrade, %d after it; want the drain and five", len(jobs[0]), len(jobs[1]))
	}
	for i, before := range jobs[0] {
		after := jobs[1][i]
		if before.ID != after.ID || before.Kind != after.Kind || before.State != after.State || before.Total != after.Total ||
			(i == 0 && (*before.Position != *after.Position || before.Position.Sequence != 77)) || (i > 0 && after.Body["ID"] != after.ID) {
			t.Errorf("%+v was %+v", after, before)
		}
	}
}

// TestAStoreOfFormat1IsServedAsByItsProgram compares the messages that a reader and a
// backend receive with those of the program that wrote the store: see testdata/format1.
func TestAStoreOfFormat1IsServedAsByItsProgram(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command("go", "run", "./testdata/format1", "-check", "-program", path)
	check.Dir = "../.."
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestDumpOfAStoreWithoutJobsPrintsTheDrainAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startService(t, "DATA_DIR="+dir)
	if status := s.terminate(); status != 0 {
		t.Fatalf("it stopped with %d", status)
	}
	if jobs := dumpedJobs(t, dir); len(jobs) != 1 || jobs[0].Kind != "drain" || jobs[0].Position == nil || jobs[0].Position.Sequence != 1 {
		t.Errorf("%+v", jobs)
	}
	if out, status := tool(t, "dump", "--jobs", "--data-dir", dir); status != 0 || !strings.Contains(out, "at 1") {
		t.Errorf("dump --jobs ends with %d:\n%s", status, out)
	}
}
