// Command queues measures what the queues' calls cost, over HTTP against the
// built program with its data on a real disk. Things that are compared are
// measured in turn in one run. It starts bin/messaging on loopback, and stops by
// itself.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

var (
	program     = flag.String("program", "bin/messaging", "the built program")
	dir         = flag.String("dir", "", "where data directories are made (default: the system's temporary one)")
	port        = flag.Int("port", 18765, "port to let it listen on")
	rounds      = flag.Int("rounds", 5, "how often each side is measured, in turn")
	each        = flag.Duration("each", 3*time.Second, "how long one measurement takes")
	connections = flag.Int("connections", 64, "connections at once")
	perSecond   = flag.Int("backlog", 60_000, "messages that are queued for each second of leasing")
	waiters     = flag.Int("waiters", 10_000, "readers that wait at once")
)

func main() {
	flag.Parse()
	scenarios := map[string]func(s *service) error{
		"lease": lease, "batch": batch, "broadcast": broadcast, "take": take, "wait": wait,
	}
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"lease", "batch", "broadcast", "take", "wait"}
	}
	for _, name := range names {
		run, ok := scenarios[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "unknown scenario:", name)
			os.Exit(2)
		}
		if err := with(run); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
	}
}
