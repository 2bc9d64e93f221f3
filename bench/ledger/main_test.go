package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/ledger/ledger"
	"github.com/stayafrica/messaging/bench/program"
)

func TestMain(m *testing.M) {
	status := m.Run()
	program.Clean()
	os.Exit(status)
}

// TestLoadAndJudge loads a real service and judges it: once unchanged, and once after
// its messages are gone.
func TestLoadAndJudge(t *testing.T) {
	dir := t.TempDir()
	sink, err := ledger.NewSink(t.Context(), 0, filepath.Join(dir, "sink"), 1, ledger.Misbehaviour{})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	p, err := program.Start(program.Config{Dir: filepath.Join(dir, "data"), Env: []string{"DJANGO_API_URL=" + sink.URL, "PERSIST_LINGER=5ms"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if _, err := p.Ready(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ledger")
	ctx := context.Background()
	arguments := []string{"load", "--url", p.URL, "--file", file, "--for", "20s", "--messages", "500", "--connections", "4", "--readers", "0", "--seed", "1"}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := run(short, arguments); err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, arguments); !errors.Is(err, errUsage) {
		t.Errorf("with an existing ledger: %v", err)
	}
	verdict := []string{"judge", "--url", p.URL, "--file", file}
	if err := run(ctx, verdict); err != nil {
		t.Error(err)
	}
	// The first judge has leased everything, so a second one finds nothing.
	if err := run(ctx, verdict); !errors.Is(err, errFound) {
		t.Errorf("with all queues empty: %v", err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"nonsense"}, {"judge", "what"}, {"load", "--connections", "x"}} {
		if err := run(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
