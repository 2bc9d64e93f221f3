package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// onDisk is what the commands share that work on a data directory.
type onDisk struct {
	DataDir    string `placeholder:"DIR" help:"The data directory (also DATA_DIR; default ./data)."`
	ConfigFile string `name:"config" placeholder:"FILE" help:"Configuration file, YAML or TOML (also MESSAGING_CONFIG)."`
	JSON       bool   `name:"json" help:"Print JSON."`
}

// dir is the directory that the service would use.
func (o *onDisk) dir() (string, error) {
	flags := make(map[string]string)
	if o.DataDir != "" {
		flags["data-dir"] = o.DataDir
	}
	from, err := newSources(flags, o.ConfigFile, os.LookupEnv)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errConfig, err)
	}
	values := make(map[string]value)
	if err := from.add(values, func(s *setting) bool { return s.key == "data_dir" }); err != nil {
		return "", fmt.Errorf("%w: %w", errConfig, err)
	}
	return values["data_dir"].text, nil
}

// check is what to check or repair, with a line of progress on a terminal.
func (o *onDisk) check(std *streams) (storage.CheckConfig, error) {
	dir, err := o.dir()
	return storage.CheckConfig{Dir: dir, Codec: wal.Codec(), Progress: o.progress(std)}, err
}

func (o *onDisk) progress(std *streams) func(done, total uint64) {
	if !std.terminal || o.JSON {
		return nil
	}
	var shown time.Time
	return func(done, total uint64) {
		if time.Since(shown) < 200*time.Millisecond {
			return
		}
		shown = time.Now()
		_, _ = fmt.Fprintf(std.err, "\r%d of %d\x1b[K\r", done, total) // a picture, not an answer
	}
}

type verifyCmd struct {
	onDisk

	Online bool `help:"Check beside a running service: the checksums of all tables, which is as much as can be seen of a store in use."`
}

// Run checks a store; exit status 4 says that something is wrong with it.
func (c *verifyCmd) Run(std *streams) error {
	config, err := c.check(std)
	if err != nil {
		return err
	}
	if c.Online {
		return c.online(std, config)
	}
	report, err := storage.Verify(config)
	if errors.Is(err, storage.ErrLocked) {
		return fmt.Errorf("%w, or check as much as can be seen beside it: messaging verify --online", err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(std, report)
	} else {
		err = showReport(std, &report)
	}
	return errors.Join(err, damagedIf(report.Found))
}

func (c *verifyCmd) online(std *streams, config storage.CheckConfig) error {
	tables, report, err := storage.VerifyTables(config.Dir, config.Progress)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(std, map[string]any{"tables": tables, "problems": report.Problems, "problems_found": report.Found})
	} else {
		err = showProblems(std, &report)
		if report.Found == 0 {
			_, err = fmt.Fprintf(std.out, "%d tables are whole; what only a stopped service shows was not checked\n", tables)
		}
	}
	return errors.Join(err, damagedIf(report.Found))
}

// damagedIf ends the command with the status of a damaged store; what is wrong
// has been said.
func damagedIf(problems uint64) error {
	if problems == 0 {
		return nil
	}
	return errors.Join(errQuiet, storage.ErrDamaged)
}

func showReport(std *streams, r *storage.Report) error {
	if err := showProblems(std, r); err != nil {
		return err
	}
	t := newTable(std)
	for _, line := range []struct {
		name string
		n    uint64
	}{
		{"first sequence", r.First},
		{"last sequence", r.Last},
		{"records", r.Records},
		{"broadcasts", r.Broadcasts},
		{"lost records", r.Lost},
		{"trimmed records", r.Trimmed},
		{"queue entries", r.Entries},
		{"queues", r.Users},
		{"dead letters", r.DeadLetters},
		{"problems", r.Found},
	} {
		t.row(line.name, strconv.FormatUint(line.n, 10))
	}
	return t.flush()
}

func showProblems(std *streams, r *storage.Report) error {
	if r.Found == 0 {
		return nil
	}
	t := newTable(std, "WHERE", "WHAT")
	for _, p := range r.Problems {
		t.row(p.Where, p.What)
	}
	if more := r.Found - uint64(len(r.Problems)); more > 0 {
		t.row("…", fmt.Sprintf("%d more", more))
	}
	return t.flush()
}

type repairCmd struct {
	onDisk

	Yes    bool `help:"Do not ask."`
	DryRun bool `help:"Only say what is wrong."`
}

// Run repairs a store. It ends with status 4 where something stayed wrong.
func (c *repairCmd) Run(std *streams) error {
	config, err := c.check(std)
	if err != nil {
		return err
	}
	if c.DryRun || !c.Yes {
		report, err := storage.Verify(config)
		if err != nil {
			return err
		}
		if !c.JSON {
			if err := showProblems(std, &report); err != nil {
				return err
			}
		}
		if c.DryRun {
			if c.JSON {
				err = printJSON(std, report)
			}
			return errors.Join(err, damagedIf(report.Found))
		}
		if report.Found > 0 && !confirm(std, "Put together what can be read, and put the damaged files aside?") {
			return fmt.Errorf("%w: nothing was changed: answer y, or give --yes", errConfig)
		}
	}
	syscall.Umask(0o077) // what is made anew is as private as what the service makes
	done, err := storage.Repair(config)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(std, done)
	} else {
		err = showRepaired(std, config.Dir, &done)
	}
	return errors.Join(err, damagedIf(done.After.Found))
}

// confirm asks for a yes.
func confirm(std *streams, question string) bool {
	_, _ = fmt.Fprintf(std.err, "%s [y/N] ", question) // without it there is no answer
	line, _ := bufio.NewReader(std.in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func showRepaired(std *streams, dir string, done *storage.Repaired) error {
	if done.Aside == "" {
		_, err := fmt.Fprintln(std.out, "nothing is wrong with it; nothing was changed")
		return err
	}
	t := newTable(std)
	for _, change := range done.Changes {
		t.row("put right", change)
	}
	for _, lost := range done.Lost {
		t.row("lost", fmt.Sprintf("messages %d to %d", lost.From, lost.To))
	}
	t.row("put aside", dir+"/"+done.Aside+" (nothing was deleted)")
	if err := t.flush(); err != nil {
		return err
	}
	return showReport(std, &done.After)
}
