package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/bench/measure"
)

func TestRender(t *testing.T) {
	dir := t.TempDir()
	program, results, page := filepath.Join(dir, "render"), filepath.Join(dir, "results.json"), filepath.Join(dir, "page.html")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := measure.Run{Mode: "quick", Results: []measure.Result{{
		Workload: "send", Unit: "messages/s", Sides: []measure.Side{{Name: "messaging", Samples: []measure.Sample{{Value: 12345}}}},
		Goals: []measure.Goal{{Least: 1}},
	}}}
	if err := run.Write(results); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
		ok   bool
	}{
		{[]string{results}, "Goals: 1 met, 0 not met", true},
		{[]string{"-html", page, results}, "", true},
		{nil, "usage: render", false},
		{[]string{results, results}, "usage: render", false},
		{[]string{"-pdf", page, results}, "usage: render", false},
		{[]string{filepath.Join(dir, "none.json")}, "no such file", false},
		{[]string{"-html", filepath.Join(dir, "none", "page.html"), results}, "no such file", false},
	} {
		out, err := exec.Command(program, c.args...).CombinedOutput()
		if (err == nil) != c.ok || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v, %s", c.args, err, out)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(text), "12,345") {
		t.Errorf("%v: %s", err, text)
	}
}
