// Command suite is `make bench`: it runs the built service, what a user would
// compare it with, and the yardsticks (what HTTP costs, what a durable write
// costs, what the database costs alone), on loopback, in turn in one run; it
// prints tables, and keeps raw results as JSON and a report as HTML.
//
// All loads are bounded, everything that it starts ends with it, and its data
// directories are removed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
)

func main() {
	c := config{}
	quick := flag.Bool("quick", false, "two minutes: fewer sizes and rounds")
	withPeers := flag.Bool("peers", false, "the peers instead of the workloads")
	only := flag.String("only", "", "only workloads whose name matches this expression; see -list")
	list := flag.Bool("list", false, "list the workloads")
	flag.StringVar(&c.program, "program", "bin/messaging", "the built service")
	flag.StringVar(&c.base, "base", "", "another build of the service that the sends are compared with (see make bench-compare)")
	flag.StringVar(&c.empty, "empty", "bin/empty", "the built yardstick for HTTP")
	flag.StringVar(&c.dir, "dir", "", "where data directories are made: a directory on the disk to measure (default: the system's temporary one)")
	flag.StringVar(&c.out, "out", "bench/results", "where the results go")
	flag.IntVar(&c.rounds, "rounds", 0, "how often each side is measured, in turn (default 5, quick 2)")
	stalls := flag.Bool(stallFlag, false, "only watch, until the input ends, whether the machine stands still")
	flag.Parse()
	if *stalls {
		if err := reportStalls(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	c.scale = full
	if *quick {
		c.scale = small
	}
	if c.rounds == 0 {
		c.rounds = c.scale.rounds
	}
	chosen := workloads(*withPeers, c.base != "")
	if *list {
		for _, w := range chosen {
			fmt.Printf("%-12s %s\n", w.name, w.what)
		}
		return
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "-only:", err)
		os.Exit(2)
	}
	chosen = matching(chosen, pattern)
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "-only %q matches no workload; -list lists them\n", *only)
		os.Exit(2)
	}
	c.mode = modeName(*quick, *withPeers, c.base != "")
	// An interruption ends the services that run; what was measured is written and
	// the directories are removed on the way out.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	if err := run(&c, chosen, interrupted); err != nil {
		fmt.Fprintln(os.Stderr, strings.TrimSpace(err.Error()))
		os.Exit(1)
	}
}

func modeName(quick, peers, base bool) string {
	name := "full"
	switch {
	case base:
		name = "compare"
	case peers:
		name = "peers"
	}
	if quick && name == "full" {
		return "quick"
	}
	if quick {
		return name + "-quick"
	}
	return name
}

func matching(all []workload, pattern *regexp.Regexp) (chosen []workload) {
	for _, w := range all {
		if pattern.MatchString(w.name) {
			chosen = append(chosen, w)
		}
	}
	return chosen
}
