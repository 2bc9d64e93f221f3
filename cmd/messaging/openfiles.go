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
	// otherFiles is how many descriptors are kept for the store's log, the drain and
	// whatever else is neither a client's connection nor a table of the store:
	// running out of them inside the store would end the process.
	otherFiles = 536
	// fewestTables is how many tables the store keeps open at the least.
	fewestTables = 64
	// fewestConnections is how many connections a service must be able to have, if
	// it is to have as many: with fewer it does not start.
	fewestConnections = 1000
)

// openFiles is how the descriptors of the process are divided.
type openFiles struct{ connections, tables int }

// limitOpenFiles divides what the process may have.
func limitOpenFiles(ctx context.Context, connections int, logger *slog.Logger) (openFiles, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return openFiles{connections, storage.MaxOpenFiles}, nil //nolint:nilerr // a system that cannot say has no such limit
	}
	return divideOpenFiles(ctx, limit.Cur, connections, logger)
}

// divideOpenFiles divides a limit on open files: connections come before more tables
// than the fewest, up to fewestConnections. The error says what limit is needed.
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
