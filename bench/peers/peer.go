// Package peers runs what a team would pick instead of the service, durable as
// the service is, on loopback, each by its best ordinary client: one message to
// one of 10,000 users, acknowledged after the fsync; ten of a user taken and
// deleted.
//
// A [Peer] starts a server of its own in a directory that it is given, and stops
// it. What is not installed is skipped by name ([ErrAbsent]).
package peers

import (
	"errors"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

var (
	// ErrAbsent says that a peer is not installed; the error that wraps it names what
	// brings it.
	ErrAbsent = errors.New("not installed")
	// ErrUnsupported says that a peer cannot do sensibly what was asked of it.
	ErrUnsupported = errors.New("not supported")
)

// Peer is one server that can be started. Its methods are for one goroutine.
type Peer interface {
	// Name is what a reader calls it, such as "Redis streams".
	Name() string
	// Detail is with which settings it runs and which client drives it.
	Detail() string
	// Start starts the server on loopback with its data in dir (which exists and is
	// empty), waits until it serves, and gives its version. It is [ErrAbsent] when
	// it is not installed; the error says by which package it would come.
	Start(dir string) (version string, err error)
	// Open connects so many clients. The server must have been started.
	Open(clients int) (Clients, error)
	// Stop ends the server and waits for it. It may be called when Start failed.
	Stop() error
}

// Clients are connections to a peer, one a worker (numbered from 0). Its methods
// are safe for concurrent use by different workers.
type Clients interface {
	// Send sends one message of [traffic.Message] to a user; when it returns nil the
	// message is durable.
	Send(worker, user int) error
	// SendBatch sends a message to each of the users in one call, or in the nearest
	// that the peer has to it (one pipeline, one transaction, one COPY); durable as
	// above.
	SendBatch(worker int, users []int) error
	// Take takes up to n messages of a user, the oldest of the highest priority
	// first where the peer has priorities, and deletes them for good. It gives how
	// many they were; none is no error.
	Take(worker, user, n int) (int, error)
	Close() error
}

// All are the peers, in the order in which they are measured.
func All() []Peer {
	return []Peer{newRedis(), newNATS(), newBeanstalkd(), newPostgres(), newRabbitMQ()}
}

// Loader is a peer for which a load generator in C exists, which costs the
// machine less than a Go client; the better of the two figures is the peer's.
type Loader interface {
	// Load sends from so many clients to users at random for about as long. pipeline
	// is how many messages a client sends before it waits for their answers: 1 is a
	// message a call, as in [Clients.Send]. It gives what was run, for a reader. It
	// is [ErrUnsupported] where the generator cannot do it, and [ErrAbsent] where it
	// is not installed. The server must have been started.
	Load(clients, pipeline int, d time.Duration) (sample measure.Sample, detail string, err error)
}
