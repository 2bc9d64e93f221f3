// Package rigs_test does to the real program what happens to programs: it is
// killed, its power is cut, its disk is filled, and more is asked of it than it can
// do. A ledger outside of it says what was lost.
package rigs_test

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
