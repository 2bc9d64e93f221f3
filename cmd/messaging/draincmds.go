package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

type drainCmd struct {
	Skip drainSkipCmd `cmd:"" help:"Skip messages that wait for the backend, in a stopped service's data directory."`
}

type drainSkipCmd struct {
	storeFlags

	To  string `required:"" placeholder:"SEQ|now" help:"Sequence at which the drain resumes, or now: after the last message."`
	Yes bool   `negatable:"" help:"Move the position. Without this flag the command only counts."`
}

// skipped is the result of a skip.
type skipped struct {
	Position  uint64 `json:"position"`  // at which the drain resumes without the skip
	To        uint64 `json:"to"`        // and with the skip
	End       uint64 `json:"end"`       // one after the last message
	Waiting   uint64 `json:"waiting"`   // messages that wait before the skip
	Forgotten uint64 `json:"forgotten"` // messages that the skip drops
	Gone      uint64 `json:"gone"`      // messages that were trimmed while they waited
	Changed   bool   `json:"changed"`
}

// Run moves the drain's position forward. It counts first, and without --yes it writes
// nothing. It opens the store for writing only after all checks.
func (c *drainSkipCmd) Run(std *stdio) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	store, err := storage.OpenToRead(dir)
	if err != nil {
		return err
	}
	s, err := c.plan(store)
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	if c.Yes && s.To > s.Position {
		if s, err = c.skip(std, dir); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(std, s)
	}
	_, err = fmt.Fprintln(std.out, s.line())
	return err
}

// plan counts the messages that the skip drops.
func (c *drainSkipCmd) plan(store *storage.Store) (s skipped, err error) {
	position, err := store.Position()
	if err != nil {
		return s, err
	}
	meta := store.Meta()
	if meta.Trimmed == storage.TrimmedUnknown { // a start has not counted them yet
		if meta.Trimmed, err = wal.CountTrimmed(store.Reader, meta.FirstSequence, position.Sequence, meta.Last+1); err != nil {
			return s, err
		}
	}
	b := newBacklog(position, meta.FirstSequence, meta.Last+1, meta.Trimmed)
	s = skipped{Position: b.position.Sequence, To: b.end, End: b.end, Waiting: b.waiting(), Gone: b.gone()}
	if c.To == "now" {
		s.Forgotten = s.Waiting
		return s, nil
	}
	to, err := strconv.ParseUint(c.To, 10, 64)
	if err != nil {
		return s, usagef("--to %q must be a sequence, or now", c.To)
	}
	if to <= s.Position || to > s.End {
		return s, usagef("--to %q must be after the drain's position, which is %d, and at most %d, which is after the last message", c.To, s.Position, s.End)
	}
	s.To = to
	trimmed, err := wal.CountTrimmed(store.Reader, meta.FirstSequence, s.Position, to)
	s.Forgotten = to - s.Position - trimmed
	return s, err
}

// skip opens the store as a service does and saves the position. It counts again, because
// a service may have run since the first count.
func (c *drainSkipCmd) skip(std *stdio, dir string) (s skipped, err error) {
	syscall.Umask(0o077) // new files are private, like the service's
	store, err := storage.Open(storage.Config{Dir: dir, Fatal: func(err error) {
		fmt.Fprintln(std.err, "messaging:", oneLine(err))
		os.Exit(exitDisk)
	}})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	log, err := wal.Open(wal.Config{Store: store})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(log.Close(), err) }()
	if s, err = c.plan(store); err != nil {
		return s, err
	}
	if err = engine.SavePosition(log, messaging.Position{Sequence: s.To}); err != nil {
		return s, err
	}
	s.Changed = true
	return s, nil
}

func (s *skipped) line() string {
	waits := plural(s.Waiting, "message waits", "messages wait") + " for the backend"
	if s.Gone > 0 {
		waits += ", " + plural(s.Gone, "was", "were") + " trimmed"
	}
	forgets := plural(s.Forgotten, "is", "are") + " skipped: the backend never receives"
	if s.Forgotten == 1 {
		forgets += " it"
	} else {
		forgets += " them"
	}
	switch {
	case s.Changed:
		return fmt.Sprintf("%s; of these %s, and the drain resumes at %d", waits, forgets, s.To)
	case s.To <= s.Position:
		return waits + "; there is nothing to skip, and nothing was changed"
	}
	return fmt.Sprintf("%s; with --yes %s, and the drain resumes at %d; nothing was changed", waits, forgets, s.To)
}
