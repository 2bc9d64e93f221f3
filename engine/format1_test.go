package engine_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/archive"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/repair"
)

// expected1 is what the program of format 1 reported about its store.
type expected1 struct {
	Last        uint64 `json:"last_sequence"`
	DeadLetters struct {
		Total       int              `json:"total"`
		DeadLetters []map[string]any `json:"dead_letters"`
	} `json:"dead_letters"`
	Jobs []struct {
		ID, Kind, State     string
		Done, Total, Failed uint64
	} `json:"jobs"`
}

// format1Store returns a copy of a store that a program of format 1 has written, and what
// that program reported about it.
func format1Store(t *testing.T) (dir string, want expected1) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	if err := archive.Unpack("../testdata/format1/store.tar.gz", dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../testdata/format1/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

// shownLetter returns a dead letter as the program that wrote the store showed it.
func shownLetter(t *testing.T, d *messaging.DeadLetter) (shown map[string]any) {
	t.Helper()
	var message map[string]any
	if err := json.Unmarshal(d.Message.AppendJSON(nil), &message); err != nil {
		t.Fatal(err)
	}
	shown = map[string]any{
		"id": d.ID, "kind": string(d.Kind), "reason": d.Reason, "status_code": any(nil), "attempts": float64(d.Attempts),
		"failed_at": d.FailedAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"), "recipients": float64(d.Recipients), "message": message,
	}
	if d.StatusCode != 0 {
		shown["status_code"] = float64(d.StatusCode)
	}
	return shown
}

// A store of format 1 is consistent before and after its upgrade, and returns the same
// contents.
func TestAStoreOfFormat1HasTheSameContentsAfterItsUpgrade(t *testing.T) {
	dir, want := format1Store(t)
	before := wantClean(t, dir)
	if done, err := repair.Repair(checkConfig(dir)); err != nil || done.Quarantine != "" {
		t.Errorf("a repair of a consistent store quarantines %q (%v)", done.Quarantine, err)
	}
	for range 2 { // the upgrade, and another open
		d := mustOpenDisk(t, dir)
		page, err := d.engine.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000})
		if err != nil || page.Total != want.DeadLetters.Total || len(page.DeadLetters) != page.Total {
			t.Fatalf("%d of %d dead letters (%v), want %d", len(page.DeadLetters), page.Total, err, want.DeadLetters.Total)
		}
		for i := range page.DeadLetters {
			got := shownLetter(t, &page.DeadLetters[i])
			if !reflect.DeepEqual(got, want.DeadLetters.DeadLetters[i]) {
				t.Errorf("dead letter %d is\n%v, want\n%v", i, got, want.DeadLetters.DeadLetters[i])
			}
		}
		d.wantJobs(want)
		if p, err := d.engine.DeadLetters().Position(); err != nil || p.Sequence != want.Last-5+1 { // five wait for the backend
			t.Errorf("the position is %v (%v)", p, err)
		}
		d.close()
		after := wantClean(t, dir)
		after.Format = before.Format
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("a check reports %+v after the upgrade, and %+v before it", after, before)
		}
	}
}

func (d *realDisk) wantJobs(want expected1) {
	d.Helper()
	jobs, err := d.engine.DeadLetters().Jobs()
	if err != nil || len(jobs) != len(want.Jobs) {
		d.Errorf("%d jobs (%v), want %d", len(jobs), err, len(want.Jobs))
	}
	for _, j := range want.Jobs {
		var got messaging.Job
		if err := json.Unmarshal(jobs[j.ID], &got); err != nil {
			d.Errorf("job %s: %v", j.ID, err)
		}
		if string(got.Kind) != j.Kind || got.Total != j.Total ||
			(j.State != "running" && (string(got.State) != j.State || got.Done != j.Done || got.Failed != j.Failed)) {
			d.Errorf("job %+v, want %+v", got, j)
		}
	}
}

// A repair of a corrupt store of format 1 also upgrades it.
func TestRepairUpgradesACorruptStoreOfFormat1(t *testing.T) {
	dir, want := format1Store(t)
	logs, err := filepath.Glob(filepath.Join(dir, "messages", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	raw, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(logs[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := repair.Repair(checkConfig(dir))
	if err != nil || done.Before.Found == 0 || done.Before.Format != 1 || done.After.Found > 0 || done.After.Format != storage.Format {
		t.Fatalf("%+v (%v)", done, err)
	}
	d := mustOpenDisk(t, dir)
	if n := d.engine.DeadLetters().Count(messaging.Refused) + d.engine.DeadLetters().Count(messaging.Undeliverable); n != uint64(want.DeadLetters.Total) {
		t.Errorf("%d dead letters are left, want %d", n, want.DeadLetters.Total)
	}
	d.wantJobs(want)
	d.close()
	wantClean(t, dir)
}
