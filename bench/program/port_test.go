package program_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stayafrica/messaging/bench/program"
)

// TestPortsAreNotTheKernels: a port that others may be given would be taken by
// them before the program listens.
func TestPortsAreNotTheKernels(t *testing.T) {
	seen := make(map[int]bool)
	for range 100 {
		port, err := program.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if port >= 32_768 || seen[port] {
			t.Errorf("port %d may be another's", port)
		}
		seen[port] = true
	}
}

func TestAPortThatIsTakenIsNotFree(t *testing.T) {
	port, err := program.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	next := port + 1 // is looked at next
	if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(next)); err == nil {
		defer l.Close()
	} // else it is somebody's already
	if got, err := program.FreePort(); err != nil || got == next {
		t.Errorf("it gave %d, %v", got, err)
	}
}
