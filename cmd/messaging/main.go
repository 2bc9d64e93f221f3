// Command messaging is the service and its command line. `messaging serve` runs the
// service. The other commands call a running service, or work on the data directory of a
// stopped one.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// Set by the linker. Builds without a repository, such as that of the image, need commit.
var release, commit string

// version returns the release, or "devel-" and the commit of the build.
func version() string {
	if release != "" {
		return release
	}
	if commit := revision(); len(commit) >= 12 {
		return "devel-" + commit[:12]
	}
	return "devel"
}

// revision returns the commit of the build, or "" if the build did not record it.
func revision() string {
	if commit != "" {
		return commit
	}
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

// stdio holds the streams that a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	// terminal is true if out is a terminal.
	terminal bool
}

// cli is the command line. The flags of serve and config are built from the settings
// table.
type cli struct {
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Serve       serveCmd       `cmd:"" help:"Run the service."`
	Config      configCmd      `cmd:"" help:"Print the configuration in force and where each value comes from."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
	Ping        pingCmd        `cmd:"" help:"Check whether a running service is ready; exit status 0 if it is."`
	Stats       statsCmd       `cmd:"" help:"Show the statistics of a running service."`
	Send        sendCmd        `cmd:"" help:"Send a message."`
	Batch       batchCmd       `cmd:"" help:"Send many messages in one call: all or none."`
	Broadcast   broadcastCmd   `cmd:"" help:"Send one message to many users."`
	Peek        peekCmd        `cmd:"" help:"Show the next messages of a queue without taking them."`
	Take        takeCmd        `cmd:"" help:"Take the next messages of a queue: remove them, or lease them."`
	Ack         ackCmd         `cmd:"" help:"Acknowledge leased messages."`
	Nack        nackCmd        `cmd:"" help:"Return leased messages to their queue."`
	Extend      extendCmd      `cmd:"" help:"Extend leases."`
	Size        sizeCmd        `cmd:"" help:"Count the messages of a queue."`
	Clear       clearCmd       `cmd:"" help:"Empty a queue."`
	DeadLetters deadLettersCmd `cmd:"" name:"dead-letters" help:"List or show dead letters, send them again, or drop them."`
	Replay      replayCmd      `cmd:"" help:"Send a range of the log to the backend again."`
	Tokens      tokensCmd      `cmd:"" help:"Make tokens that may do less than API_TOKENS."`
	Jobs        jobsCmd        `cmd:"" help:"List, show or cancel redrives and replays."`
	Drain       drainCmd       `cmd:"" help:"Skip messages that wait for the backend."`
	Verify      verifyCmd      `cmd:"" help:"Check the data directory of a stopped service, without changing it."`
	Repair      repairCmd      `cmd:"" help:"Rebuild a damaged data directory from all that can be read."`
	Dump        dumpCmd        `cmd:"" help:"Print the records of a stopped service's data directory."`
}

type deadLettersCmd struct {
	List    deadListCmd    `cmd:"" help:"List dead letters."`
	Show    deadShowCmd    `cmd:"" help:"Show one dead letter."`
	Redrive deadRedriveCmd `cmd:"" help:"Send dead letters again, to the backend or to their queue."`
	Drop    deadDropCmd    `cmd:"" help:"Delete dead letters."`
}

// remote holds the flags of the commands that call a running service.
type remote struct {
	URL   string `help:"Address of the service (also MESSAGING_URL; default: this machine, at HTTP_PORT)."`
	Token string `help:"Token for the service (also MESSAGING_TOKEN, MESSAGING_TOKEN_FILE)."`
	CA    string `name:"ca" placeholder:"FILE" help:"Certificates (PEM) to trust instead of the system's, for an https address (also MESSAGING_CA)."`
	JSON  bool   `negatable:"" name:"json" help:"Print JSON instead of a table."`

	completed bool // complete has run
	client    *http.Client
}

// settingFlags holds the flags of the settings table. Its structure type is built at run
// time. It has one field for each flag, nil or empty if the flag was not given.
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

// escapeTag escapes $, which kong would interpolate as a variable.
func escapeTag(text string) string { return strings.ReplaceAll(text, "$", "$$") }

func lastWord(key string) string { return key[strings.LastIndexByte(key, '_')+1:] }

// given returns the flags that were on the command line.
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
	status := run(os.Args[1:], stdio{os.Stdin, escapingWriter{os.Stdout}, os.Stderr, term.IsTerminal(int(os.Stdout.Fd()))})
	stop()
	os.Exit(status)
}

// run runs the program and returns the exit status.
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

// warnUnknown warns about variables that look like settings but are not. serve logs this
// warning itself, and version loads no settings.
func warnUnknown(command string, std *stdio) {
	if command == "serve" || command == "version" {
		return
	}
	if unknown := unknownVariables(os.Environ()); unknown != "" {
		fmt.Fprintln(std.err, "messaging: warning:", unknown)
	}
}

// errQuiet ends a command with a nonzero status and prints nothing, because the command
// has printed everything.
var errQuiet = errors.New("quiet")

// oneLine returns the text of an error on one line, without characters that could control
// a terminal: it may contain what a server said. Joined errors have several lines.
func oneLine(err error) string { return printable(strings.ReplaceAll(err.Error(), "\n", "; ")) }

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
