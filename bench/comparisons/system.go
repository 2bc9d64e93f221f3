// Package comparisons runs the systems that a team could choose instead of the service,
// with the same durability, on loopback, each with its fastest common client. The work is
// the same for each: sends of a message to one of 10,000 users, confirmed after the fsync,
// and takes that delete ten messages of a user.
//
// A [System] starts its own server in a given directory and stops it. A system that is
// not installed ([ErrAbsent]) is skipped, and the report names it.
package comparisons

import (
	"errors"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

var (
	// ErrAbsent reports that a system is not installed. The error that wraps it names
	// the package that provides it.
	ErrAbsent = errors.New("not installed")
	// ErrUnsupported reports that a system has no reasonable way to do the work.
	ErrUnsupported = errors.New("not supported")
)

// System is a server that can be started. Its methods are for one goroutine.
type System interface {
	// Name is the name in reports, such as "Redis streams".
	Name() string
	// Detail describes the settings and the client.
	Detail() string
	// Start starts the server on loopback with its data in dir, which exists and is
	// empty, waits until it serves, and returns its version. It returns [ErrAbsent] if
	// the system is not installed.
	Start(dir string) (version string, err error)
	// Open connects that many clients. The server must be running.
	Open(clients int) (Clients, error)
	// Stop ends the server and waits for it. It may be called after a failed Start.
	Stop() error
}

// Clients are connections to a system, one per worker, numbered from 0. Different
// workers may call the methods concurrently.
type Clients interface {
	// Send sends one message of [traffic.Message] to a user. The message is durable
	// when Send returns nil.
	Send(worker, user int) error
	// SendBatch sends a message to each of the users in one call, or in the closest
	// equivalent that the system has (one pipeline, one transaction, one COPY). The
	// messages are durable when it returns nil.
	SendBatch(worker int, users []int) error
	// Take takes up to n messages of a user and deletes them permanently. It takes the
	// oldest of the highest priority first if the system has priorities. It returns how
	// many it took; zero is not an error.
	Take(worker, user, n int) (int, error)
	Close() error
}

// All returns the systems in the order in which they are measured.
func All() []System {
	return []System{newRedis(), newNATS(), newBeanstalkd(), newPostgres(), newRabbitMQ()}
}

// Loader is a system with a load generator in C, which costs the machine less than a Go
// client. The better of the two figures counts for the system.
type Loader interface {
	// Load sends from that many clients to random users for about d. pipeline is how
	// many messages a client sends before it waits for their responses: 1 is one
	// message per call, as in [Clients.Send]. It returns a description of the command.
	// It returns [ErrUnsupported] if the generator cannot do this, and [ErrAbsent] if
	// it is not installed. The server must be running.
	Load(clients, pipeline int, d time.Duration) (sample measure.Sample, detail string, err error)
}
