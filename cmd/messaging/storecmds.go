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

// storeFlags holds the flags of the commands that work on a data directory.
type storeFlags struct {
	DataDir    string `placeholder:"DIR" help:"The data directory (also DATA_DIR; default ./data)."`
	ConfigFile string `name:"config" placeholder:"FILE" help:"Configuration file, YAML or TOML (also MESSAGING_CONFIG)."`
	JSON       bool   `negatable:"" name:"json" help:"Print JSON."`
}

// dir returns the data directory that the service would use.
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
		return dir.text, nil // these commands do not create a store; they report the error
	}
	return dir.text, checkDataDir(dir)
}

// check returns the configuration of a check or a repair, with progress on a terminal.
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
		_, _ = fmt.Fprintf(std.err, "\r%d of %d\x1b[K\r", done, total) // only progress
	}
}

type verifyCmd struct {
	storeFlags

	Online bool `negatable:"" help:"Check the checksums of all tables while a service runs; the rest of a store in use cannot be checked."`
}

// Run checks a store. The exit status is 4 if it has problems.
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
		return fmt.Errorf("%w, or check only its tables while it runs: messaging verify --online", err)
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
			_, err = fmt.Fprintf(std.out, "%s whole; the rest can be checked only while the service is stopped\n", plural(uint64(tables), "table is", "tables are")) //nolint:gosec // not negative
		}
	}
	return errors.Join(err, damagedIf(report.Found))
}

// damagedIf returns an error for the exit status of a damaged store if there are problems.
// They are printed already.
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
		line = "an upgrade of the store to format %d was interrupted: this is not damage, and the next start finishes it\n"
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
	DryRun bool `negatable:"" help:"Only report problems."`
}

// Run repairs a store. The exit status is 4 if problems remain.
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
				_, err = fmt.Fprintln(std.out, "no problems were found: there is nothing to repair")
			}
			return errors.Join(err, damagedIf(report.Found))
		}
		if report.Found > 0 && !confirm(std, "Rebuild the store from all that can be read, and quarantine the damaged files?") {
			return usagef("repair needs a confirmation, and nothing was changed: answer y, or add --yes")
		}
	}
	syscall.Umask(0o077) // new files are private, like the service's
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

// confirm asks a question and reports whether the answer is yes.
func confirm(std *stdio, question string) bool {
	_, _ = fmt.Fprintf(std.err, "%s [y/N] ", question) // if it fails, so does the read
	line, _ := bufio.NewReader(std.in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func showRepaired(std *stdio, dir string, done *repair.Repaired) error {
	if done.Quarantine == "" {
		_, err := fmt.Fprintln(std.out, "no problems were found; nothing was changed")
		return err
	}
	t := newTable(std)
	for _, change := range done.Changes {
		t.row("repaired", change)
	}
	for _, lost := range done.Lost {
		t.row("lost", fmt.Sprintf("messages %d to %d", lost.From, lost.To))
	}
	t.row("quarantined", dir+"/"+done.Quarantine+" (nothing was deleted)")
	if err := t.flush(); err != nil {
		return err
	}
	return showReport(std, &done.After)
}
