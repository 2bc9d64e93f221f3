package faultinjection_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
)

// fewFiles is the least limit on open files with which the service starts, far below
// what it asks for.
const fewFiles = 1664

// TestFact6ConnectionsDoNotExhaustTheStoresDescriptors opens more connections than the
// limit on open files. If the service had no descriptor left to rotate the write-ahead
// log, it would end. Meanwhile messages are stored, the log is rotated, and nothing is
// lost.
func TestFact6ConnectionsDoNotExhaustTheStoresDescriptors(t *testing.T) {
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skipf("skipped: the limit on open files cannot be set here: %v", err)
	}
	config := program.Config{Dir: filepath.Join(t.TempDir(), "data"), Prefix: []string{prlimit, fmt.Sprintf("--nofile=%d:%d", fewFiles, fewFiles)}}
	service, client := startFewFiles(t, config)
	stop := storeBatches(client)
	time.Sleep(100 * time.Millisecond) // its connections come first
	openConnections(t, service.URL, fewFiles+64)
	rotated := make(map[string]bool)
	for deadline := time.Now().Add(60 * time.Second); len(rotated) < 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log was rotated %d times\n%s", len(rotated), service.Log())
		}
		logs, err := filepath.Glob(filepath.Join(config.Dir, "messages", "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range logs {
			rotated[name] = true
		}
		if files, err := os.ReadDir("/proc/self/fd"); err == nil && len(files) < fewFiles {
			t.Fatalf("%d connections are open", len(files))
		}
	}
	stop()
	sent := client.ledger.count(func(o *outcome) bool { return o.status == http.StatusOK })
	service.Kill()
	if !strings.Contains(service.Log(), "too low for MAX_CONNECTIONS") {
		t.Errorf("the service does not log the low limit on open files:\n%s", service.Log())
	}
	service, reader := startFewFiles(t, config)
	reader.ledger = client.ledger
	if err := reader.takeAll(fullUsers + 1); err != nil {
		t.Fatal(err)
	}
	lost := client.ledger.count(func(o *outcome) bool { return o.status == http.StatusOK && !o.read })
	if lost > 0 || sent < 100 {
		t.Errorf("%d of %d messages are lost", lost, sent)
	}
	t.Logf("%d messages, the log was rotated %d times", sent, len(rotated)-1)
	if status, err := service.Stop(20 * time.Second); status != 0 || err != nil {
		t.Errorf("the stop returned %d, %v", status, err)
	}
}

func startFewFiles(t *testing.T, config program.Config) (*program.Program, *fullClient) {
	t.Helper()
	service, err := program.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Kill)
	if _, err := service.Ready(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	return service, newFullClient(service.URL, "files-", &fullDiskLedger{messages: make(map[string]*outcome)})
}

// storeBatches stores batches of a few MiB until stop. Its connections are seldom idle,
// so the service keeps them.
func storeBatches(c *fullClient) (stop func()) {
	var stopped atomic.Bool
	var sending sync.WaitGroup
	for n := range 2 {
		sending.Go(func() {
			for text := padding(uint64(n)); !stopped.Load(); {
				if c.batch(n, 50, text) != http.StatusOK {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	return func() { stopped.Store(true); sending.Wait() }
}

// openConnections opens idle connections until the end of the test.
func openConnections(t *testing.T, url string, size int) {
	t.Helper()
	address := strings.TrimPrefix(url, "http://")
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			_ = c.Close()
		}
	})
	for range size {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			t.Fatalf("connection %d: %v", len(all), err)
		}
		all = append(all, c)
	}
}
