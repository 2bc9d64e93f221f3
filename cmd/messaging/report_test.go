package main

import (
	"bytes"
	"log/slog"
	"strings"
	"syscall"
	"testing"
)

func TestConnectionsFollowTheLimitOnOpenFiles(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
	for _, c := range []struct {
		files      uint64
		want, have int
	}{
		{2600, 1000, 1000},
		{2599, 1000, 999},
		{1700, 1000, 100},
		{1024, 1000, 16},
	} {
		if before.Max < c.files {
			t.Skipf("this process may have %d open files at most", before.Max)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: c.files, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		have := connectionLimit(t.Context(), c.want, slog.New(slog.NewTextHandler(&log, nil)))
		if have != c.have || strings.Contains(log.String(), "MAX_CONNECTIONS") != (c.have < c.want) {
			t.Errorf("%d open files: %d connections, want %d; %s", c.files, have, c.have, &log)
		}
	}
}
