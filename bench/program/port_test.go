package program_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stayafrica/messaging/bench/program"
)

// TestPortsAreOutsideTheEphemeralRange: another process could be assigned an ephemeral
// port before the program listens on it.
func TestPortsAreOutsideTheEphemeralRange(t *testing.T) {
	seen := make(map[int]bool)
	for range 100 {
		port, err := program.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if port >= 32_768 || seen[port] {
			t.Errorf("port %d is in the ephemeral range", port)
		}
		seen[port] = true
	}
}

func TestUsedPortIsNotFree(t *testing.T) {
	port, err := program.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	next := port + 1 // the port that FreePort tries next
	if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(next)); err == nil {
		defer l.Close()
	} // otherwise another process has it already
	if got, err := program.FreePort(); err != nil || got == next {
		t.Errorf("it returned %d, %v", got, err)
	}
}
