// Command ledger detects whether a messaging service loses, duplicates, reorders or
// alters messages. It runs next to the service, never in it:
//
//	ledger sink  --port 9000 --file sink.log
//	ledger load  --url http://127.0.0.1:8765 --file ledger.log --for 10s
//	ledger judge --url http://127.0.0.1:8765 --file ledger.log --sink sink.log
//
// Start the service with DJANGO_API_URL set to the sink, inject faults while the load
// runs, start the service again, and judge after it has drained.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stayafrica/messaging/bench/ledger/ledger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var (
	errUsage = errors.New("usage: ledger load|judge|sink [flags]; each has -help")
	errFound = errors.New("the service broke its guarantees")
)

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	command, ok := map[string]func(context.Context, []string) error{"load": load, "judge": judge, "sink": sink}[args[0]]
	if !ok {
		return errUsage
	}
	return command(ctx, args[1:])
}

// parse parses the flags of a command.
func parse(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	if set.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, set.Arg(0))
	}
	return nil
}

func load(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("load", flag.ContinueOnError)
	url := set.String("url", "http://127.0.0.1:8765", "the service")
	path := set.String("file", "ledger.log", "the ledger; it must be new, and not in the service's directory")
	duration := set.Duration("for", 10*time.Second, "how long to send")
	connections := set.Int("connections", 32, "connections that send")
	readers := set.Int("readers", 4, "connections that take and acknowledge")
	seed := set.Uint64("seed", uint64(time.Now().UnixNano()), "the seed that the traffic is derived from")
	most := set.Int64("messages", 10_000_000, "the maximum number of messages to send")
	text := set.Int("text", 1000, "the maximum length of a text in characters")
	users := set.Int("users", 60, "the number of users")
	if err := parse(set, args); err != nil {
		return err
	}
	if _, err := os.Stat(*path); err == nil {
		return fmt.Errorf("%w: %s exists already", errUsage, *path)
	}
	file, err := ledger.Create(*path)
	if err != nil {
		return err
	}
	l, err := ledger.NewLoad(ledger.Config{
		URL: *url, File: file, Plan: ledger.Plan{Seed: *seed, Users: *users, Conversations: *users, Text: *text},
		Connections: *connections, Readers: *readers, MaxMessages: *most,
	})
	if err != nil {
		return errors.Join(err, file.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, *duration)
	defer cancel()
	err = errors.Join(l.Run(ctx), file.Close())
	fmt.Printf("seed %d: %+v\n", *seed, l.Counts())
	return err
}

func judge(_ context.Context, args []string) error {
	set := flag.NewFlagSet("judge", flag.ContinueOnError)
	url := set.String("url", "http://127.0.0.1:8765", "the service, whose queues are read to their end under leases")
	path := set.String("file", "ledger.log", "the ledger")
	stored := set.String("sink", "", "the file of the sink, into which everything was drained")
	if err := parse(set, args); err != nil {
		return err
	}
	verdict, err := ledger.Judge(ledger.Evidence{URL: *url, Ledger: *path, Sink: *stored})
	if err != nil {
		return err
	}
	fmt.Println(verdict)
	if len(verdict.Findings) > 0 {
		return errFound
	}
	return nil
}

func sink(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("sink", flag.ContinueOnError)
	port := set.Int("port", 9000, "port to listen on, on loopback")
	path := set.String("file", "sink.log", "the file that records the stored messages; its content counts as stored")
	seed := set.Uint64("seed", 1, "the seed of its failures")
	wait := set.Duration("wait", 12*time.Second, "how long it does not respond to a hanging request; longer than PERSIST_TIMEOUT")
	var bad ledger.Misbehaviour
	for _, share := range []struct {
		name, usage string
		into        *int
		value       int
	}{
		{"fail", "how many of 100 requests get a 500", &bad.Fail, 10},
		{"hang", "how many of 100 requests get no response", &bad.Hang, 4},
		{"reset", "how many of 100 requests are stored and get a connection reset", &bad.Reset, 10},
		{"errors", "how many of 100 requests get a 200 with errors", &bad.Errors, 10},
		{"slow", "how many of 100 requests get a slow response", &bad.Slow, 6},
	} {
		set.IntVar(share.into, share.name, share.value, share.usage)
	}
	if err := parse(set, args); err != nil {
		return err
	}
	bad.Wait = *wait
	s, err := ledger.NewSink(ctx, *port, *path, *seed, bad)
	if err != nil {
		return err
	}
	fmt.Println(s.URL, filepath.Base(*path))
	<-ctx.Done()
	return s.Close()
}
