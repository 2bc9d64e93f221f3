package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestATestMustFailOnTheBaseAndPassHere(t *testing.T) {
	fails := `{"Action":"attr","Test":"TestLoss","Key":"fault","Value":"7"}
{"Action":"output","Test":"TestLoss/killed","Output":"    off_test.go:31: one message is lost\n"}
{"Action":"fail","Test":"TestLoss/killed"}
{"Action":"fail","Test":"TestLoss"}
{"Action":"fail"}`
	passes := strings.ReplaceAll(fails, `"fail"`, `"pass"`)
	ends := `{"Action":"run","Test":"TestLoss"}`
	control := func(out string) string { return strings.Replace(out, `"7"`, `""`, 1) }
	for _, c := range []struct {
		name, base, this, line string
		good                   bool
	}{
		{"fixed", fails, passes, "7  TestLoss  base: fails,  this: passes", true},
		{"still there", fails, fails, "7  TestLoss  base: fails,  this: fails  must pass", false},
		{"never there", passes, passes, "7  TestLoss  base: passes,  this: passes  shows nothing", false},
		{"the base ends the run", ends, passes, "7  TestLoss  base: not ended,  this: passes  shows nothing", false},
		{"a control", control(passes), control(passes), "control  TestLoss  base: passes,  this: passes", true},
		{"a control fails on the base", control(fails), control(passes), "a control: the base does not work", false},
		{"this ends the run", fails, ends, "7  TestLoss  base: fails,  this: not ended  must pass", false},
		{"only here", ``, passes, "7  TestLoss  base: not run,  this: passes  shows nothing", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, err := parse([]byte(c.base))
			if err != nil {
				t.Fatal(err)
			}
			this, err := parse([]byte(c.this))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if good := report(&out, base, this, false); good != c.good {
				t.Errorf("good: %t, want %t", good, c.good)
			}
			if !strings.Contains(out.String(), c.line) {
				t.Errorf("the table is\n%s, want the line %q", out.String(), c.line)
			}
			if printed := strings.Contains(out.String(), "one message is lost"); printed != (c.this == fails) {
				t.Errorf("the failures on this tree are printed: %t:\n%s", printed, out.String())
			}
		})
	}
}

func TestOutputWithoutTestsIsAnError(t *testing.T) {
	if _, err := parse([]byte("no JSON")); err == nil {
		t.Error("it is taken")
	}
}
