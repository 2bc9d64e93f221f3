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
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// terminal says that out is one.
	terminal bool
}

// cli is the command line. Its flags for serve and config are made from the
// settings table.
type cli struct {
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
	JSON  bool   `name:"json" help:"Print JSON instead of a table."`
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
		help := s.help
		if s.fallback != "" {
			help += " (default " + s.fallback + ")"
		}
		fields = append(fields, reflect.StructField{
			Name: fieldName(i), Type: reflect.TypeFor[*string](),
			Tag: reflect.StructTag(fmt.Sprintf("name:%q help:%q placeholder:%q", s.flag(), escapeTag(help), strings.ToUpper(lastWord(s.key)))),
		})
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
		if p, ok := reflect.TypeAssert[*string](f.fields.Elem().FieldByName(fieldName(i))); ok && p != nil {
			given[settings[i].flag()] = *p
		}
	}
	return given
}

func main() {
	stop := profiled()
	status := run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr, term.IsTerminal(int(os.Stdout.Fd()))})
	stop()
	os.Exit(status)
}

// run is the whole program but for the process around it; it gives the exit
// status.
func run(args []string, std streams) int {
	var c cli
	flags := newSettingFlags()
	c.Serve.Flags, c.Config.Flags = kong.Plugins{flags.fields.Interface()}, kong.Plugins{flags.fields.Interface()}
	exited, status := false, 0
	parser, err := kong.New(&c, kong.Name("messaging"),
		kong.Description("A durable messaging service for teams with a Django backend."),
		kong.Writers(std.out, std.err), kong.Exit(func(code int) { exited, status = true, code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(&std, &flags))
	if err != nil {
		fmt.Fprintln(std.err, "messaging:", err)
		return exitOther
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	if exited { // help was printed
		return status
	}
	if err != nil {
		fmt.Fprintf(std.err, "messaging: %v (see messaging --help)\n", err)
		return exitConfig
	}
	if err := ctx.Run(); err != nil {
		if !errors.Is(err, errQuiet) {
			fmt.Fprintln(std.err, "messaging:", oneLine(err))
		}
		return exitStatus(err)
	}
	return exitDone
}

// errQuiet ends a command with a status other than 0 that has already said all.
var errQuiet = errors.New("quiet")

// oneLine joins the lines of joined errors.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run prints the version.
func (c *versionCmd) Run(std *streams) error {
	if c.JSON {
		return printJSON(std, map[string]string{"version": version()})
	}
	_, err := fmt.Fprintln(std.out, "messaging", version())
	return err
}
