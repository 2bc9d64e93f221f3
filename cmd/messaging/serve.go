package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/stayafrica/messaging/storage"
)

// gcPercent lets the heap grow to four times the live memory before a collection. The live
// memory is bounded, mainly by the store's caches. So this costs memory while the service
// is busy, and saves a twentieth of the time under load.
const gcPercent = 300

// moreProcessors is the number of running goroutines beyond one per processor. Without it
// the goroutine that returns from an fsync waits until a goroutine that handles requests
// stops, and all waiters for the disk wait with it. Measured: a twelfth more sends at 64
// connections.
const moreProcessors = 1

type serveCmd struct {
	ConfigFile string       `name:"config" placeholder:"FILE" help:"Configuration file, YAML or TOML (also MESSAGING_CONFIG)."`
	Flags      kong.Plugins `embed:""`
}

// Run serves until SIGTERM or SIGINT. A second signal, at least one second after the first,
// ends every grace period at once.
func (c *serveCmd) Run(std *stdio, flags *settingFlags) error {
	config, values, err := load(flags.given(), c.ConfigFile, os.LookupEnv)
	if err != nil {
		return err
	}
	if err := checkDataDir(values[keyDataDir]); err != nil {
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + moreProcessors)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	syscall.Umask(0o077) // stored files are private; libraries would make them readable
	logger := newLogger(config, std)
	if unknown := unknownVariables(os.Environ()); unknown != "" {
		logger.Warn("the environment has unknown variables: " + unknown) //nolint:sloglint // the names are the message
	}
	for _, name := range secretFlags(values) {
		logger.Warn("a secret on the command line can be read by every user of this machine: set it in the environment or in a file", "flag", name)
	}
	ctx, force, hangups, stop := watchSignals(logger)
	defer stop()
	m := &Main{Config: config, Logger: logger, Hangups: hangups, Faults: faults(), Fatal: func(err error) { fatalExit(logger, err) }}
	return dataDirFault(values[keyDataDir], m.Run(ctx, force))
}

// secretFlags returns the flags with which secrets were given.
func secretFlags(values map[string]value) (names []string) {
	for i := range settings {
		if v := values[settings[i].key]; settings[i].secret && strings.HasPrefix(v.source, "flag ") {
			names = append(names, v.name)
		}
	}
	return names
}

// fatalExit ends the process after a failure of its disk or its store.
func fatalExit(logger *slog.Logger, err error) {
	const ends = "the service ends without acknowledging anything more; "
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		logger.Error("the store is damaged: "+ends+"see messaging verify", "error", err)
		os.Exit(exitDamaged)
	case errors.Is(err, storage.ErrDiskFull):
		logger.Error("the disk is full and stays so: "+ends+"free some space, then start again", "error", err)
	default:
		logger.Error("the disk failed: "+ends+"look at the disk, then start again", "error", err)
	}
	os.Exit(exitDisk)
}

// newLogger returns a logger that writes to standard error. The default format is text on
// a terminal, else JSON.
func newLogger(c Config, std *stdio) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // load has checked it
	options := &slog.HandlerOptions{Level: level}
	format := c.LogFormat
	if format == "" {
		format = "json"
		if f, ok := std.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	if format == "text" {
		return slog.New(slog.NewTextHandler(std.err, options))
	}
	return slog.New(slog.NewJSONHandler(std.err, options))
}

type configCmd struct {
	ConfigFile string       `name:"config" placeholder:"FILE" help:"Configuration file, YAML or TOML (also MESSAGING_CONFIG)."`
	JSON       bool         `negatable:"" name:"json" help:"Print JSON."`
	Flags      kong.Plugins `embed:""`
}

// Run prints the configuration that serve would use, with secrets masked.
func (c *configCmd) Run(std *stdio, flags *settingFlags) error {
	_, values, err := load(flags.given(), c.ConfigFile, os.LookupEnv)
	if err != nil {
		return err
	}
	type line struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Source string `json:"source"`
	}
	lines := make([]line, 0, len(settings))
	for i := range settings {
		s := &settings[i]
		v := values[s.key]
		lines = append(lines, line{s.env(), s.shown(v.text), v.source})
	}
	if c.JSON {
		return printJSON(std, lines)
	}
	sort.SliceStable(lines, func(i, j int) bool { return lines[i].Source != "default" && lines[j].Source == "default" })
	t := newTable(std, "NAME", "VALUE", "FROM")
	for _, l := range lines {
		t.row(l.Name, l.Value, l.Source)
	}
	if err := t.flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
