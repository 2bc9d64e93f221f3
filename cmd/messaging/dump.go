package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

type dumpCmd struct {
	storeFlags

	From        uint64 `default:"1" help:"First sequence."`
	To          uint64 `help:"Last sequence (0 for the end of the log)."`
	Limit       int    `default:"1000" help:"Maximum number of entries (0 for all)."`
	Queue       string `placeholder:"USER" help:"Print the entries of a user's queue instead of the log."`
	DeadLetters bool   `negatable:"" help:"Print dead letters instead of the log."`
	Jobs        bool   `negatable:"" help:"Print the drain's position and the jobs instead of the log."`
}

// dumped is one record, entry or dead letter, for output.
type dumped struct {
	Sequence     uint64         `json:"sequence"`
	Time         string         `json:"created_at,omitzero"`
	Kind         string         `json:"kind"`
	ID           string         `json:"id,omitzero"`
	Priority     string         `json:"priority,omitzero"`
	Conversation string         `json:"conversation_id,omitzero"`
	Receiver     string         `json:"receiver_id,omitzero"`
	Recipients   int            `json:"recipients,omitzero"`
	Note         string         `json:"note,omitzero"`
	Body         jsontext.Value `json:"body,omitzero"`
}

// errDumped ends a dump at its limit.
var errDumped = errors.New("enough")

// Run prints the contents of a stopped store.
func (c *dumpCmd) Run(std *stdio) (err error) {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	store, err := storage.OpenToRead(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	p := &dumpPrinter{std: std, json: c.JSON, limit: c.Limit, table: newTable(std)}
	if c.Jobs {
		return errors.Join(p.jobs(store), p.table.flush())
	}
	if !c.JSON {
		p.table.row("SEQUENCE", "TIME", "KIND", "ID", "PRIORITY", "RECEIVER", "NOTE", "BODY")
	}
	switch {
	case c.Queue != "":
		err = p.queue(store, messaging.UserID(c.Queue))
	case c.DeadLetters:
		err = p.letters(store)
	default:
		err = p.log(store, c.From, c.To)
	}
	if errors.Is(err, errDumped) {
		err = nil
	}
	return errors.Join(err, p.table.flush())
}

type dumpPrinter struct {
	std     *stdio
	json    bool
	limit   int
	printed int
	table   *table
}

const (
	// shownBody is the number of characters of a body that a table shows.
	shownBody = 120
	// shownTogether is the number of rows that are aligned with each other. All rows of a
	// large store do not fit in memory.
	shownTogether = 1000
)

func (p *dumpPrinter) print(d dumped) error {
	if p.json {
		if err := printLine(p.std, d); err != nil {
			return err
		}
	} else {
		receiver := d.Receiver
		if d.Recipients > 0 {
			receiver = plural(uint64(d.Recipients), "user", "users")
		}
		p.table.row(strconv.FormatUint(d.Sequence, 10), d.Time, d.Kind, d.ID, d.Priority, receiver, d.Note, shorten(string(d.Body), shownBody))
	}
	if p.printed++; p.printed == p.limit {
		return errDumped
	}
	if !p.json && p.printed%shownTogether == 0 {
		return p.table.flush()
	}
	return nil
}

// log prints records. A record that cannot be read is printed as damaged.
func (p *dumpPrinter) log(store *storage.Store, from, to uint64) error {
	if to == 0 {
		to = ^uint64(0) - 1
	}
	return store.Records(from, to+1, func(seq uint64, raw []byte) (bool, error) {
		record, err := wal.DecodeRecord(raw)
		if err != nil {
			return true, p.print(dumped{Sequence: seq, Kind: "damaged", Note: plural(uint64(len(raw)), "byte that is not a record", "bytes that are not a record")})
		}
		return true, p.print(dumpRecord(seq, &record))
	})
}

func dumpRecord(seq uint64, record *wal.Record) dumped {
	m := &record.Message
	d := dumped{
		Sequence: seq, Time: timestamp(m.CreatedAt), Kind: "message", ID: m.ID.String(), Priority: m.Priority.String(),
		Conversation: m.Conversation, Receiver: string(m.Receiver.User), Recipients: int(record.Recipients), Body: m.Body,
	}
	switch {
	case record.Lost:
		return dumped{Sequence: seq, Time: d.Time, Kind: "lost", Note: "a repair put this in place of a record that could not be read"}
	case record.Trimmed:
		return dumped{Sequence: seq, Time: d.Time, Kind: "trimmed", ID: d.ID, Note: "the message was trimmed early, on a full disk"}
	case record.IsBroadcast():
		d.Kind = "broadcast"
	}
	if m.NoPersist {
		d.Note += "not for the backend; "
	}
	if !m.DeliverAt.IsZero() {
		d.Note += "due " + timestamp(m.DeliverAt) + "; "
	}
	if !m.ExpiresAt.IsZero() {
		d.Note += "expires " + timestamp(m.ExpiresAt) + "; "
	}
	return d
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// queue prints the entries of a user's queue in the order of their keys. It labels the
// entries that a clear has marked, which the next start removes.
func (p *dumpPrinter) queue(store *storage.Store, user messaging.UserID) error {
	clears, err := store.Clears()
	if err != nil {
		return err
	}
	cleared := uint64(0)
	for _, c := range clears {
		if c.User == user {
			cleared = c.UpTo
		}
	}
	kinds := [...]string{"queued", "due later"}
	for i, index := range [...]storage.Index{storage.Queued, storage.Delayed} {
		for priority := range messaging.Priority(messaging.Priorities) {
			var stop error
			err := store.Entries(index, user, priority, 0, ^uint64(0), func(seq uint64, e storage.Entry) bool {
				d := dumped{Sequence: seq, Kind: kinds[i], Priority: priority.String(), Receiver: string(user)}
				if seq <= cleared {
					d.Note += "cleared; "
				}
				if e.Deliveries > 0 {
					d.Note += "delivered " + plural(uint64(e.Deliveries), "time", "times") + "; "
				}
				if e.Due != 0 {
					d.Note += "due " + timestamp(time.UnixMilli(e.Due)) + "; "
				}
				if e.Expires != 0 {
					d.Note += "expires " + timestamp(time.UnixMilli(e.Expires)) + "; "
				}
				stop = p.print(d)
				return stop == nil
			})
			if err = errors.Join(err, stop); err != nil {
				return err
			}
		}
	}
	return nil
}

// letters prints dead letters. A store of format 1 has them in another file.
func (p *dumpPrinter) letters(store *storage.Store) error {
	if old, err := store.Format1DeadLetters(p.letter); old {
		return err
	}
	letters := engine.DeadLetterReader{Store: store.Reader}
	filter := messaging.DeadLetterFilter{Limit: 100}
	for {
		page, err := letters.ListDeadLetters(filter)
		if err != nil {
			return err
		}
		for i := range page.DeadLetters {
			if err := p.letter(&page.DeadLetters[i]); err != nil {
				return err
			}
		}
		if filter.After = page.Next; filter.After == "" {
			return nil
		}
	}
}

func (p *dumpPrinter) letter(d *messaging.DeadLetter) error {
	return p.print(dumped{
		Sequence: d.Message.Position.Sequence, Time: timestamp(d.FailedAt), Kind: string(d.Kind), ID: d.ID, Priority: d.Message.Priority.String(),
		Conversation: d.Message.Conversation, Receiver: string(d.Message.Receiver.User), Recipients: d.Recipients, Note: d.Reason, Body: d.Message.Body,
	})
}
