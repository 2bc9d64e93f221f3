// Command suite implements `make bench`: it runs the built service, the systems that a
// user would compare it with, and the baselines (the cost of HTTP, of a durable write
// and of the database alone), on loopback, in turn in one run. It prints tables and
// stores the raw results as JSON and a report as HTML.
//
// All loads are bounded. Every process that the suite starts ends with it, and its data
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
	withSystems := flag.Bool("comparisons", false, "compare with other systems instead of running the workloads")
	flag.BoolVar(withSystems, "peers", false, "the old name of -comparisons")
	only := flag.String("only", "", "only workloads whose name matches this expression; see -list")
	list := flag.Bool("list", false, "list the workloads")
	flag.StringVar(&c.program, "program", "bin/messaging", "the built service")
	flag.StringVar(&c.base, "base", "", "another build of the service to compare with (see make bench-compare)")
	flag.StringVar(&c.empty, "empty", "bin/empty", "the built baseline for HTTP")
	flag.StringVar(&c.dir, "dir", "", "the parent of the data directories, on the disk to measure (default: the system's temporary directory)")
	flag.StringVar(&c.out, "out", "bench/results", "the directory of the results")
	flag.IntVar(&c.rounds, "rounds", 0, "the number of rounds per side (default 5, quick 2)")
	stalls := flag.Bool(stallFlag, false, "only watch for stalls of the machine, until the input ends")
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
	chosen := workloads(*withSystems, c.base != "")
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
	c.mode = modeName(*quick, *withSystems, c.base != "")
	// An interruption ends the running services. The results so far are written, and
	// the directories are removed on the way out.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	if err := run(&c, chosen, interrupted); err != nil {
		fmt.Fprintln(os.Stderr, strings.TrimSpace(err.Error()))
		os.Exit(1)
	}
}

func modeName(quick, systems, base bool) string {
	name := "full"
	switch {
	case base:
		name = "compare"
	case systems:
		name = "comparisons"
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
