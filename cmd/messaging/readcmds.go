package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// pageSize is how many messages one request may ask for.
const pageSize = 1000

type queueFlags struct {
	User  string `arg:"" help:"Whose queue."`
	Count int    `short:"n" default:"10" min:"1" help:"How many messages at most."`
}

type peekCmd struct {
	remote     `embed:""`
	queueFlags `embed:""`
}

// Run shows the next messages. A peek begins at the front of the queue each time,
// so that one request is all that can be seen.
func (c *peekCmd) Run(std *stdio) error {
	r := newQueueReader(std, &c.remote, c.User, "&peek=true")
	n, err := r.page(min(c.Count, pageSize))
	if n == pageSize && c.Count > pageSize {
		fmt.Fprintf(std.err, "messaging: peek shows the first %d messages at most (see messaging size %s)\n", pageSize, printable(c.User))
	}
	return errors.Join(err, r.end())
}

type takeCmd struct {
	remote     `embed:""`
	queueFlags `embed:""`
	Lease      durationFlag `placeholder:"DURATION" min:"1s" max:"1h" whole:"" help:"Take them under a lease, 1s to 1h, to be acknowledged with ack; a bare number is seconds."`
	Wait       durationFlag `placeholder:"DURATION" max:"1m" whole:"" help:"Wait so long for the first one, up to 60s; a bare number is seconds."`
}

// Run takes the next messages, a page after the other until there are as many as
// wanted or the queue is empty.
func (c *takeCmd) Run(std *stdio) error {
	r := newQueueReader(std, &c.remote, c.User, "")
	if c.Lease.given {
		r.query += "&lease=" + wholeSeconds(c.Lease)
	}
	if c.Wait.given {
		r.first = "&wait=" + wholeSeconds(c.Wait)
	}
	n, err := r.page(min(c.Count, pageSize))
	if err == nil && n > 0 {
		r.first = ""
		err = r.more(c.Count - n)
	}
	return errors.Join(r.end(), err)
}

// errInterrupted ends a take that has not read all that was wanted.
var errInterrupted = errors.New("interrupted: what was taken until then is printed")

// more reads page after page. A signal ends it after the page that is on its way,
// whose messages would be lost else.
func (r *queueReader) more(left int) error {
	interrupted, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for left > 0 {
		n, err := r.page(min(left, pageSize))
		if err != nil || n == 0 {
			return err
		}
		if left -= n; left > 0 && interrupted.Err() != nil {
			return errInterrupted
		}
	}
	return nil
}

func wholeSeconds(d durationFlag) string { return strconv.FormatInt(int64(d.Duration/time.Second), 10) }

// shown is the part of a message that a table shows.
type shown struct {
	ID        string         `json:"id"`
	Sequence  uint64         `json:"sequence"`
	CreatedAt string         `json:"created_at"`
	Priority  string         `json:"priority"`
	Sender    jsontext.Value `json:"sender_id"`
	Text      string         `json:"text"`
	// Receipt and Deliveries are there under a lease.
	Receipt    string `json:"receipt"`
	Deliveries int    `json:"deliveries"`
}

// queueAnswer is what the service says of a queue, and what --json prints of all
// pages together.
type queueAnswer struct {
	Status   string           `json:"status"`
	UserID   string           `json:"user_id"`
	Messages []jsontext.Value `json:"messages"`
	Count    int              `json:"count"`
}

// queueReader reads a queue page by page. It prints each page of a table as it
// comes: what was taken is in the queue no more, whatever happens to the next
// request.
type queueReader struct {
	std    *stdio
	remote *remote
	path   string
	query  string // of every request
	first  string // of the next request
	table  *table
	all    queueAnswer
	// answered says that there was a page, which may have been empty.
	answered bool
}

func newQueueReader(std *stdio, r *remote, user, query string) *queueReader {
	return &queueReader{
		std: std, remote: r, path: "/api/messages/queue/" + url.PathEscape(user), query: query,
		all: queueAnswer{Status: "success", UserID: user, Messages: []jsontext.Value{}},
	}
}

// page reads at most so many messages and returns how many there were.
func (r *queueReader) page(limit int) (int, error) {
	var page queueAnswer
	if _, err := r.remote.get(r.path+"?max_count="+strconv.Itoa(limit)+r.query+r.first, &page); err != nil {
		return 0, err
	}
	r.answered = true
	if r.remote.JSON {
		r.all.Messages = append(r.all.Messages, page.Messages...)
		r.all.Count += len(page.Messages)
		return len(page.Messages), nil
	}
	for _, raw := range page.Messages {
		var m shown
		if err := json.Unmarshal(raw, &m); err != nil {
			return len(page.Messages), r.remote.notOurs()
		}
		r.row(&m)
	}
	if r.table == nil {
		return len(page.Messages), nil
	}
	return len(page.Messages), r.table.flush()
}

// row adds a message to the table, whose first one says whether there are leases.
func (r *queueReader) row(m *shown) {
	sequence, text := strconv.FormatUint(m.Sequence, 10), shorten(m.Text, 60)
	if m.Receipt != "" {
		r.head("SEQUENCE", "PRIORITY", "SENDER", "DELIVERIES", "RECEIPT", "TEXT")
		r.table.row(sequence, m.Priority, string(m.Sender), strconv.Itoa(m.Deliveries), m.Receipt, text)
		return
	}
	r.head("SEQUENCE", "CREATED", "PRIORITY", "SENDER", "TEXT")
	r.table.row(sequence, m.CreatedAt, m.Priority, string(m.Sender), text)
}

func (r *queueReader) head(names ...string) {
	if r.table == nil {
		r.table = newTable(r.std, names...)
	}
}

// end prints what is left to print, also after an error: it was taken.
func (r *queueReader) end() error {
	switch {
	case !r.remote.JSON && r.table == nil && r.answered:
		r.head("SEQUENCE", "CREATED", "PRIORITY", "SENDER", "TEXT")
		return r.table.flush()
	case r.remote.JSON && r.answered:
		return printJSON(r.std, r.all)
	}
	return nil
}
