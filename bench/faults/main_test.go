// Package faults_test has a test for each fixed fault that users of an earlier revision could
// observe. The tests use only HTTP and the command line of the built program, so the same
// tests run against any build: FAULTS_PROGRAM names one; by default this tree is built.
// `make faults BASE=<rev>` (package compare) runs them against two builds.
//
// A test names its fault by a number, see [fault].
package faults_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stayafrica/messaging/bench/program"
)

// programPath is the program under test.
var programPath = os.Getenv("FAULTS_PROGRAM")

func TestMain(m *testing.M) {
	if programPath == "" {
		var err error
		if programPath, err = program.Build(""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	status := m.Run()
	program.Clean()
	os.Exit(status)
}

// fault records the fault that a test demonstrates; the comparison prints it.
func fault(t *testing.T, number string) {
	t.Helper()
	t.Attr("fault", number)
}
