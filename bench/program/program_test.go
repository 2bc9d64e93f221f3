package program_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
)

func TestMain(m *testing.M) {
	status := m.Run()
	program.Clean()
	os.Exit(status)
}

func TestServiceStartsAndStops(t *testing.T) {
	p, err := program.Start(program.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ready(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Stop(20 * time.Second); status != 0 || err != nil {
		t.Errorf("status %d (%v)\n%s", status, err, p.Log())
	}
}

func TestReadyReportsAnEndedService(t *testing.T) {
	p, err := program.Start(program.Config{Dir: t.TempDir(), Env: []string{"HTTP_PORT=nonsense"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ready(20 * time.Second); !errors.Is(err, program.ErrEnded) {
		t.Errorf("Ready returned %v", err)
	}
	if p.ExitStatus() != 2 {
		t.Errorf("status %d, want 2", p.ExitStatus())
	}
}
