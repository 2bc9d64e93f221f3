// Package rigs_test does to the real program what happens to programs: it is
// killed, and its power is cut. A ledger outside of it says what was lost.
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
