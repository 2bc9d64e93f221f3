package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/repair"
	"github.com/stayafrica/messaging/wal"
)

// storeFlags is what the commands share that work on a data directory.
type storeFlags struct {
	DataDir    string `placeholder:"DIR" help:"The data directory (also DATA_DIR; default ./data)."`
	ConfigFile string `name:"config" placeholder:"FILE" help:"Configuration file, YAML or TOML (also MESSAGING_CONFIG)."`
	JSON       bool   `negatable:"" name:"json" help:"Print JSON."`
}

// dir is the directory that the service would use.
func (o *storeFlags) dir() (string, error) {
	flags := make(map[string]string)
	if o.DataDir != "" {
		flags["data-dir"] = o.DataDir
	}
	from, err := newSources(flags, o.ConfigFile, os.LookupEnv)
	if err != nil {
		return "", err
	}
	values := make(map[string]value)
	if err := from.add(values, func(s *setting) bool { return s.key == keyDataDir }); err != nil {
		return "", err
	}
	dir := values[keyDataDir]
	if _, err := os.Stat(dir.text); errors.Is(err, fs.ErrNotExist) {
		return dir.text, nil // these commands make no store, and say so
	}
	return dir.text, checkDataDir(dir)
}

// check is what to check or repair, with a line of progress on a terminal.
func (o *storeFlags) check(std *stdio) (fsck.Config, error) {
	dir, err := o.dir()
	return fsck.Config{Dir: dir, Codec: wal.Codec(), Progress: o.progress(std)}, err
}

func (o *storeFlags) progress(std *stdio) func(done, total uint64) {
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
	storeFlags

	Online bool `negatable:"" help:"Check beside a running service: the checksums of all tables, which is as much as can be seen of a store in use."`
}

// Run checks a store; exit status 4 says that something is wrong with it.
func (c *verifyCmd) Run(std *stdio) error {
	config, err := c.check(std)
	if err != nil {
		return err
	}
	if c.Online {
		return c.online(std, config)
	}
	report, err := fsck.Verify(config)
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

func (c *verifyCmd) online(std *stdio, config fsck.Config) error {
	tables, report, err := fsck.VerifyTables(config.Dir, config.Progress)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(std, map[string]any{"tables": tables, "problems": report.Problems, "problems_found": report.Found})
	} else {
		err = showProblems(std, &report)
		if report.Found == 0 {
			_, err = fmt.Fprintf(std.out, "%s whole; what only a stopped service shows was not checked\n", plural(uint64(tables), "table is", "tables are")) //nolint:gosec // not negative
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
	return errors.Join(errQuiet, storage.ErrCorrupt)
}

func showReport(std *stdio, r *fsck.Report) error {
	if err := showProblems(std, r); err != nil {
		return err
	}
	t := newTable(std)
	for _, line := range []struct {
		name string
		n    uint64
	}{
		{"format", uint64(r.Format)},
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
	if err := t.flush(); err != nil || r.Format == storage.Format {
		return err
	}
	line := "the next start upgrades the store to format %d, which older programs do not read\n"
	if r.UpgradeUnfinished {
		line = "an upgrade of the store to format %d was cut off: it is no damage, and the next start finishes it\n"
	}
	_, err := fmt.Fprintf(std.out, line, storage.Format)
	return err
}

func showProblems(std *stdio, r *fsck.Report) error {
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
	storeFlags

	Yes    bool `negatable:"" help:"Do not ask."`
	DryRun bool `negatable:"" help:"Only say what is wrong."`
}

// Run repairs a store. It ends with status 4 where something stayed wrong.
func (c *repairCmd) Run(std *stdio) error {
	config, err := c.check(std)
	if err != nil {
		return err
	}
	if c.DryRun || !c.Yes {
		report, err := fsck.Verify(config)
		if err != nil {
			return err
		}
		if !c.JSON {
			if err := showProblems(std, &report); err != nil {
				return err
			}
		}
		if c.DryRun {
			switch {
			case c.JSON:
				err = printJSON(std, report)
			case report.Found == 0:
				_, err = fmt.Fprintln(std.out, "nothing is wrong with it: there is nothing to repair")
			}
			return errors.Join(err, damagedIf(report.Found))
		}
		if report.Found > 0 && !confirm(std, "Put together what can be read, and put the damaged files aside?") {
			return usagef("repair needs a yes, and nothing was changed: answer y, or give --yes")
		}
	}
	syscall.Umask(0o077) // what is made again is as private as what the service makes
	done, err := repair.Repair(config)
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
func confirm(std *stdio, question string) bool {
	_, _ = fmt.Fprintf(std.err, "%s [y/N] ", question) // without it there is no answer
	line, _ := bufio.NewReader(std.in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func showRepaired(std *stdio, dir string, done *repair.Repaired) error {
	if done.Quarantine == "" {
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
	t.row("put aside", dir+"/"+done.Quarantine+" (nothing was deleted)")
	if err := t.flush(); err != nil {
		return err
	}
	return showReport(std, &done.After)
}
