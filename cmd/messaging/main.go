// Command messaging is the service and its command line: `messaging serve` runs
// it, every other command talks to one that runs.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// release is set by the linker for a release.
var release string

// version names the build: the release, or the commit that it was built from.
func version() string {
	if release != "" {
		return release
	}
	if commit := revision(); len(commit) >= 12 {
		return "devel-" + commit[:12]
	}
	return "devel"
}

// revision is the commit that the program was built from; it is empty where the
// build did not say.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// stdio are where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	// terminal says that out is one.
	terminal bool
}

// cli is the command line. Its flags for serve and config are made from the
// settings table.
type cli struct {
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Serve       serveCmd       `cmd:"" help:"Run the service."`
	Config      configCmd      `cmd:"" help:"Print the configuration in force and where each value comes from."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
	Ping        pingCmd        `cmd:"" help:"Ask a running service whether it is ready; exit status 0 if so."`
	Stats       statsCmd       `cmd:"" help:"Show the statistics of a running service."`
	Send        sendCmd        `cmd:"" help:"Send a message."`
	Batch       batchCmd       `cmd:"" help:"Send many messages at once: all of them, or none."`
	Broadcast   broadcastCmd   `cmd:"" help:"Send one message to many users."`
	Peek        peekCmd        `cmd:"" help:"Show the next messages of a queue and leave them there."`
	Take        takeCmd        `cmd:"" help:"Take the next messages of a queue, for good or under a lease."`
	Ack         ackCmd         `cmd:"" help:"Acknowledge messages that were taken under a lease."`
	Nack        nackCmd        `cmd:"" help:"Give messages back that were taken under a lease."`
	Extend      extendCmd      `cmd:"" help:"Let leases last longer."`
	Size        sizeCmd        `cmd:"" help:"Count a queue."`
	Clear       clearCmd       `cmd:"" help:"Empty a queue."`
	DeadLetters deadLettersCmd `cmd:"" name:"dead-letters" help:"Look at messages that were given up, send them again or drop them."`
	Replay      replayCmd      `cmd:"" help:"Send a part of the log to the backend again."`
	Jobs        jobsCmd        `cmd:"" help:"Look at redrives and replays, or cancel them."`
	Drain       drainCmd       `cmd:"" help:"Forget messages that wait for the backend."`
	Verify      verifyCmd      `cmd:"" help:"Check the data directory of a stopped service, without changing it."`
	Repair      repairCmd      `cmd:"" help:"Put a damaged data directory together again, of all that can be read."`
	Dump        dumpCmd        `cmd:"" help:"Print the records of a stopped service's data directory."`
}

type deadLettersCmd struct {
	List    deadListCmd    `cmd:"" help:"List dead letters."`
	Show    deadShowCmd    `cmd:"" help:"Show one dead letter."`
	Redrive deadRedriveCmd `cmd:"" help:"Send dead letters where they failed to go."`
	Drop    deadDropCmd    `cmd:"" help:"Remove dead letters for good."`
}

// remote is what the commands share that talk to a running service.
type remote struct {
	URL   string `help:"Where the service is (also MESSAGING_URL; by default on this machine, at HTTP_PORT)."`
	Token string `help:"Token to call it with (also MESSAGING_TOKEN, MESSAGING_TOKEN_FILE)."`
	JSON  bool   `negatable:"" name:"json" help:"Print JSON instead of a table."`

	completed bool // with what no flag said
}

// settingFlags are the flags of the settings table, made at run time: a
// structure with a pointer for each, nil where the flag was not given.
type settingFlags struct{ fields reflect.Value }

func newSettingFlags() settingFlags {
	fields := make([]reflect.StructField, 0, len(settings))
	for i := range settings {
		s := &settings[i]
		if s.client {
			continue
		}
		field := reflect.StructField{
			Name: fieldName(i), Type: reflect.TypeFor[*string](),
			Tag: reflect.StructTag(fmt.Sprintf("name:%q help:%q placeholder:%q", s.flag(), escapeTag(s.flagHelp()), strings.ToUpper(lastWord(s.key)))),
		}
		if s.onOff {
			field.Type = reflect.TypeFor[settingSwitch]()
			field.Tag += ` negatable:""`
		}
		fields = append(fields, field)
	}
	return settingFlags{reflect.New(reflect.StructOf(fields))}
}

func fieldName(setting int) string { return fmt.Sprintf("F%d", setting) }

// escapeTag keeps kong from interpolating what only looks like a variable.
func escapeTag(text string) string { return strings.ReplaceAll(text, "$", "$$") }

func lastWord(key string) string { return key[strings.LastIndexByte(key, '_')+1:] }

// given collects the flags that were on the command line.
func (f settingFlags) given() map[string]string {
	given := make(map[string]string)
	for i := range settings {
		if settings[i].client {
			continue
		}
		field := f.fields.Elem().FieldByName(fieldName(i))
		if text, ok := reflect.TypeAssert[settingSwitch](field); ok && text != "" {
			given[settings[i].flag()] = string(text)
		}
		if p, ok := reflect.TypeAssert[*string](field); ok && p != nil {
			given[settings[i].flag()] = *p
		}
	}
	return given
}

func main() {
	stop := profiled()
	status := run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr, term.IsTerminal(int(os.Stdout.Fd()))})
	stop()
	os.Exit(status)
}

// run is the whole program but for the process around it; it gives the exit
// status.
func run(args []string, std stdio) int {
	var c cli
	flags := newSettingFlags()
	c.Serve.Flags, c.Config.Flags = kong.Plugins{flags.fields.Interface()}, kong.Plugins{flags.fields.Interface()}
	exited, status := false, 0
	options := append(mappers(), kong.Name("messaging"), kong.Vars{"version": "messaging " + version()},
		kong.Description("A durable messaging service for teams with a Django backend."),
		kong.Writers(std.out, std.err), kong.Exit(func(code int) { exited, status = true, code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(&std, &flags))
	parser, err := kong.New(&c, options...)
	if err != nil {
		fmt.Fprintln(std.err, "messaging:", err)
		return exitOther
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	if exited { // help or the version was printed
		return status
	}
	if err != nil {
		fmt.Fprintln(std.err, "messaging:", parseFailure(err))
		return exitConfig
	}
	warnUnknown(ctx.Command(), &std)
	if err := ctx.Run(); err != nil {
		if !errors.Is(err, errQuiet) {
			fmt.Fprintln(std.err, "messaging:", oneLine(err))
		}
		return exitStatus(err)
	}
	return exitDone
}

// warnUnknown warns of variables that look like settings and are none. serve does
// so in its log, and version loads no settings.
func warnUnknown(command string, std *stdio) {
	if command == "serve" || command == "version" {
		return
	}
	if unknown := unknownVariables(os.Environ()); unknown != "" {
		fmt.Fprintln(std.err, "messaging: warning:", unknown)
	}
}

// errQuiet ends a command with a status other than 0 that has already said all.
var errQuiet = errors.New("quiet")

// oneLine joins the lines of joined errors.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

type versionCmd struct {
	JSON bool `negatable:"" name:"json" help:"Print JSON."`
}

// Run prints the version.
func (c *versionCmd) Run(std *stdio) error {
	if c.JSON {
		return printJSON(std, map[string]string{"version": version()})
	}
	_, err := fmt.Fprintln(std.out, "messaging", version())
	return err
}
