package main

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"

	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/storage"
)

const (
	// otherFiles is the number of descriptors reserved for the store's log, the drain and
	// everything else that is neither a client's connection nor a table of the store. If
	// the store runs out of descriptors, the process ends.
	otherFiles = 536
	// fewestTables is the minimum number of open tables of the store.
	fewestTables = 64
	// fewestConnections is the minimum number of connections, if MAX_CONNECTIONS is not
	// lower. Below it the service does not start.
	fewestConnections = 1000
)

// openFiles is the division of the process's descriptors.
type openFiles struct{ connections, tables int }

// limitOpenFiles divides the descriptors that the process may open.
func limitOpenFiles(ctx context.Context, connections int, logger *slog.Logger) (openFiles, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return openFiles{connections, storage.MaxOpenFiles}, nil //nolint:nilerr // no limit is known
	}
	return divideOpenFiles(ctx, limit.Cur, connections, logger)
}

// divideOpenFiles divides a limit on open files. Up to fewestConnections, connections have
// precedence over tables above fewestTables. The error contains the limit that is needed.
func divideOpenFiles(ctx context.Context, limit uint64, connections int, logger *slog.Logger) (openFiles, error) {
	all := openFiles{connections, storage.MaxOpenFiles}
	have := int(min(limit, 1<<30)) - otherFiles - rest.HealthConnections
	if have >= all.connections+all.tables {
		return all, nil
	}
	needed := min(connections, fewestConnections)
	if most := have - fewestTables; most < needed {
		remedy := ""
		if most > 0 {
			remedy = fmt.Sprintf(", or set MAX_CONNECTIONS to at most %d", most)
		}
		least := needed + fewestTables + otherFiles + rest.HealthConnections
		return openFiles{}, fmt.Errorf("%w: the limit on open files is %d, and the service needs %d: raise it (ulimit -n %d, LimitNOFILE=%d, docker run --ulimit nofile=%d)%s",
			errConfig, limit, least, least, least, least, remedy)
	}
	divided := openFiles{connections: min(connections, max(needed, have-all.tables))}
	divided.tables = min(all.tables, have-divided.connections)
	if divided.connections < connections {
		logger.WarnContext(ctx, "the limit on open files is too low for MAX_CONNECTIONS: raise it (ulimit -n, LimitNOFILE)",
			"open_files", limit, "max_connections", connections, "in_force", divided.connections)
	}
	return divided, nil
}
