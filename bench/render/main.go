// Command render shows the stored results of a benchmark run: as tables on the terminal
// or as an HTML page.
//
//	go run ./bench/render results.json
//	go run ./bench/render -html results.html results.json
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/report"
)

var errUsage = errors.New("usage: render [-html page.html] results.json")

func main() {
	err := render(os.Stdout, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(out io.Writer, args []string) error {
	set := flag.NewFlagSet("render", flag.ContinueOnError)
	page := set.String("html", "", "write an HTML page to this file, instead of tables to the terminal")
	if err := set.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	if set.NArg() != 1 {
		return errUsage
	}
	run, err := measure.Read(set.Arg(0))
	if err != nil {
		return err
	}
	if *page == "" {
		report.Text(out, run)
		return nil
	}
	var text bytes.Buffer
	if err := report.HTML(&text, run); err != nil {
		return err
	}
	return os.WriteFile(*page, text.Bytes(), 0o644) //nolint:gosec // results are for everybody
}
