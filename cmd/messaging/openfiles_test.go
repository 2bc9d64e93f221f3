package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestConnectionsAndTablesFollowTheLimitOnOpenFiles(t *testing.T) {
	for _, c := range []struct {
		files        uint64
		want         int
		have, tables int
		refused      string
	}{
		{files: 11600, want: 10_000, have: 10_000, tables: 1000},
		{files: 4096, want: 10_000, have: 2496, tables: 1000},
		{files: 1700, want: 10_000, have: 1000, tables: 100},
		{files: 1664, want: 10_000, have: 1000, tables: 64},
		{files: 1663, want: 10_000, refused: "ulimit -n 1664"},
		{files: 1024, want: 10_000, refused: "MAX_CONNECTIONS to at most 360"},
		{files: 1024, want: 360, have: 360, tables: 64},
		{files: 1024, want: 100, have: 100, tables: 324},
		{files: 256, want: 100, refused: "the limit on open files is 256, and the service needs 764"},
	} {
		var log bytes.Buffer
		got, err := divideOpenFiles(t.Context(), c.files, c.want, slog.New(slog.NewTextHandler(&log, nil)))
		if c.refused != "" {
			if !errors.Is(err, errConfig) || !strings.Contains(err.Error(), c.refused) || strings.Contains(err.Error(), "at most -") {
				t.Errorf("%d open files for %d connections: %v, want %q", c.files, c.want, err, c.refused)
			}
			continue
		}
		if err != nil || got != (openFiles{c.have, c.tables}) || strings.Contains(log.String(), "MAX_CONNECTIONS") != (c.have < c.want) {
			t.Errorf("%d open files for %d connections: %+v %v; %s", c.files, c.want, got, err, &log)
		}
	}
}
