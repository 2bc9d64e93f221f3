// Package faultinjection_test injects faults into the real program: it is killed, its
// power is cut, its disk is filled, and it gets more load than it can serve. A ledger
// outside the program detects losses.
package faultinjection_test

import (
	"os"
	"testing"

	"github.com/stayafrica/messaging/bench/program"
)

func TestMain(m *testing.M) {
	status := m.Run()
	program.Clean()
	os.Exit(status)
}
