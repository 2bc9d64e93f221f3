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

// pageSize is the maximum number of messages of one request.
const pageSize = 1000

type queueFlags struct {
	User  string `arg:"" help:"Id of the queue's user."`
	Count int    `short:"n" default:"10" min:"1" help:"Maximum number of messages."`
}

type peekCmd struct {
	remote     `embed:""`
	queueFlags `embed:""`
}

// Run prints the next messages. Each peek begins at the front of the queue, so the messages
// of one request are all that a peek can show.
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
	Lease      durationFlag `placeholder:"DURATION" min:"1s" max:"1h" whole:"" help:"Take them under a lease of 1s to 1h and acknowledge them with ack; a bare number is seconds."`
	Wait       durationFlag `placeholder:"DURATION" max:"1m" whole:"" help:"Maximum wait for the first message, up to 60s; a bare number is seconds."`
}

// Run takes the next messages page by page, until it has the wanted number or the queue is
// empty.
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

// errInterrupted ends a take before it has the wanted number of messages.
var errInterrupted = errors.New("interrupted: the messages taken so far are printed")

// more reads further pages. A signal ends it only after the page in flight, because the
// messages of that page would be lost.
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
	// Receipt and Deliveries are set under a lease.
	Receipt    string `json:"receipt"`
	Deliveries int    `json:"deliveries"`
}

// queueAnswer is a response for a queue. --json prints one for all pages together.
type queueAnswer struct {
	Status   string           `json:"status"`
	UserID   string           `json:"user_id"`
	Messages []jsontext.Value `json:"messages"`
	Count    int              `json:"count"`
}

// queueReader reads a queue page by page. It prints each page of a table at once: taken
// messages are no longer in the queue, and the next request may fail.
type queueReader struct {
	std    *stdio
	remote *remote
	path   string
	query  string // of every request
	first  string // of the next request
	table  *table
	all    queueAnswer
	// answered is true after the first page, even an empty one.
	answered bool
}

func newQueueReader(std *stdio, r *remote, user, query string) *queueReader {
	return &queueReader{
		std: std, remote: r, path: "/api/messages/queue/" + url.PathEscape(user), query: query,
		all: queueAnswer{Status: "success", UserID: user, Messages: []jsontext.Value{}},
	}
}

// page reads at most limit messages and returns their number.
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

// row adds a message to the table. The first message decides whether the table shows
// leases.
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

// end prints the remaining output, also after an error, because the messages were taken.
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
