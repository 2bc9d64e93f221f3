package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type pingCmd struct {
	remote `embed:""`
}

// Run asks for readiness.
func (c *pingCmd) Run(std *streams) error {
	var state struct {
		Ready, Recovered, Disk, Draining bool
	}
	answer, err := c.call(http.MethodGet, "/health/ready", nil)
	if answer == nil {
		return err
	}
	if e := json.Unmarshal(answer, &state, json.MatchCaseInsensitiveNames(true)); e != nil {
		return err
	}
	if c.JSON {
		if e := printJSON(std, answer); e != nil {
			return e
		}
	} else {
		word := "ready"
		if err != nil {
			word = fmt.Sprintf("not ready (recovered %t, disk %t, draining %t)", state.Recovered, state.Disk, state.Draining)
		}
		fmt.Fprintln(std.out, word)
	}
	if err != nil {
		return errQuiet
	}
	return nil
}

type statsCmd struct {
	remote `embed:""`
}

// Run shows the statistics.
func (c *statsCmd) Run(std *streams) error {
	var stats map[string]jsontext.Value
	answer, err := c.get("/api/stats", &stats)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	delete(stats, "counters")
	delete(stats, "status")
	names := make([]string, 0, len(stats))
	for name := range stats {
		names = append(names, name)
	}
	sort.Strings(names)
	t := newTable(std)
	for _, name := range names {
		t.row(name, string(stats[name]))
	}
	return t.flush()
}

type sendCmd struct {
	remote       `embed:""`
	safety       `embed:""`
	timing       `embed:""`
	Receiver     string `arg:"" optional:"" help:"Id of the receiver."`
	Text         string `arg:"" optional:"" help:"The text."`
	Conversation string `default:"0" help:"Id of the conversation."`
	Sender       string `default:"0" help:"Id of the sender."`
	Priority     string `help:"high, normal or low."`
	Type         string `help:"The message's type."`
	Metadata     string `help:"Metadata, a JSON object."`
	NoPersist    bool   `help:"The backend has this message already."`
	Stdin        bool   `help:"Read the whole message as JSON from standard input."`
}

// Run sends one message.
func (c *sendCmd) Run(std *streams) error {
	body, err := c.body(std)
	if err != nil {
		return err
	}
	header := c.header()
	header.Set("Content-Type", "application/json")
	answer, err := c.send(http.MethodPost, "/api/messages/send", bytes.NewReader(body), header)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	var receipt struct {
		ID       string `json:"id"`
		Sequence uint64 `json:"sequence"`
		Again    bool   `json:"duplicate"`
	}
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "queued %s at %d%s\n", receipt.ID, receipt.Sequence, again(receipt.Again))
	return err
}

func (c *sendCmd) body(std *streams) ([]byte, error) {
	if c.Stdin {
		return io.ReadAll(std.in)
	}
	if c.Receiver == "" || c.Text == "" {
		return nil, fmt.Errorf("%w: send needs a receiver and a text (or --stdin)", errConfig)
	}
	message := map[string]any{
		"conversation_id": id(c.Conversation), "sender_id": id(c.Sender), "receiver_id": id(c.Receiver), "text": c.Text,
	}
	if c.Priority != "" {
		message["priority"] = c.Priority
	}
	if c.Type != "" {
		message["message_type"] = c.Type
	}
	if c.Metadata != "" {
		message["metadata"] = jsontext.Value(c.Metadata)
	}
	if c.NoPersist {
		message["persist"] = false
	}
	c.add(message)
	body, err := json.Marshal(message, json.Deterministic(true)) // the same call has the same body
	if err != nil {
		return nil, fmt.Errorf("%w: the message is not JSON: %w", errConfig, err)
	}
	return body, nil
}

// id writes an id the way a backend expects it: digits as a number.
func id(text string) jsontext.Value {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 && strconv.FormatInt(n, 10) == text {
		return jsontext.Value(text)
	}
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		return jsontext.Value(`""`)
	}
	return quoted
}

type queueFlags struct {
	User  string `arg:"" help:"Whose queue."`
	Count int    `short:"n" default:"10" help:"How many messages at most."`
}

type peekCmd struct {
	remote     `embed:""`
	queueFlags `embed:""`
}

// Run shows the next messages.
func (c *peekCmd) Run(std *streams) error {
	return showQueue(std, &c.remote, c.queueFlags, "&peek=true")
}

type takeCmd struct {
	remote     `embed:""`
	queueFlags `embed:""`
	Lease      *int `placeholder:"SECONDS" help:"Take them under a lease of so many seconds, to be acknowledged with ack."`
	Wait       *int `placeholder:"SECONDS" help:"Wait so long for the first one, up to 60 seconds."`
}

// Run takes the next messages.
func (c *takeCmd) Run(std *streams) error {
	more := ""
	if c.Lease != nil { // a lease of 0 is a mistake, and not none
		more += "&lease=" + strconv.Itoa(*c.Lease)
	}
	if c.Wait != nil {
		more += "&wait=" + strconv.Itoa(*c.Wait)
	}
	return showQueue(std, &c.remote, c.queueFlags, more)
}

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

func showQueue(std *streams, r *remote, q queueFlags, more string) error {
	var page struct {
		Messages []shown `json:"messages"`
	}
	answer, err := r.get("/api/messages/queue/"+url.PathEscape(q.User)+"?max_count="+strconv.Itoa(q.Count)+more, &page)
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(std, answer)
	}
	if len(page.Messages) > 0 && page.Messages[0].Receipt != "" {
		return showLeased(std, page.Messages)
	}
	t := newTable(std, "SEQUENCE", "CREATED", "PRIORITY", "SENDER", "TEXT")
	for _, m := range page.Messages {
		t.row(strconv.FormatUint(m.Sequence, 10), m.CreatedAt, m.Priority, string(m.Sender), shorten(m.Text, 60))
	}
	return t.flush()
}

// showLeased shows messages with the receipts that acknowledge them.
func showLeased(std *streams, messages []shown) error {
	t := newTable(std, "SEQUENCE", "PRIORITY", "SENDER", "DELIVERIES", "RECEIPT", "TEXT")
	for _, m := range messages {
		t.row(strconv.FormatUint(m.Sequence, 10), m.Priority, string(m.Sender), strconv.Itoa(m.Deliveries), m.Receipt, shorten(m.Text, 60))
	}
	return t.flush()
}

type deadListCmd struct {
	remote `embed:""`
	Kind   string `help:"refused or undeliverable."`
	Reason string `help:"Only those with this reason."`
	After  string `help:"Go on behind this id."`
	Limit  int    `default:"100" help:"How many at most."`
}

// deadLetter is what the service says of one.
type deadLetter struct {
	ID         string         `json:"id"`
	Reason     string         `json:"reason"`
	Status     *int           `json:"status_code"`
	Attempts   int            `json:"attempts"`
	FailedAt   string         `json:"failed_at"`
	Recipients int            `json:"recipients"`
	Message    jsontext.Value `json:"message"`
}

// Run lists dead letters.
func (c *deadListCmd) Run(std *streams) error {
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	for name, given := range map[string]string{"kind": c.Kind, "reason": c.Reason, "after": c.After} {
		if given != "" {
			query.Set(name, given)
		}
	}
	var page struct {
		DeadLetters []deadLetter `json:"dead_letters"`
		Total       int          `json:"total"`
		Next        *string      `json:"next"`
	}
	answer, err := c.get("/api/dead-letters?"+query.Encode(), &page)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	t := newTable(std, "ID", "FAILED", "TRIES", "STATUS", "RECIPIENTS", "REASON")
	for _, d := range page.DeadLetters {
		t.row(d.ID, d.FailedAt, strconv.Itoa(d.Attempts), d.status(), strconv.Itoa(d.Recipients), shorten(d.Reason, 60))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if page.Next != nil {
		fmt.Fprintf(std.out, "%d of %d; go on with --after %s\n", len(page.DeadLetters), page.Total, *page.Next)
	}
	return nil
}

func (d *deadLetter) status() string {
	if d.Status == nil {
		return "-"
	}
	return strconv.Itoa(*d.Status)
}

type deadShowCmd struct {
	remote `embed:""`
	ID     string `arg:"" help:"Id of the dead letter."`
}

// Run shows one dead letter with its message.
func (c *deadShowCmd) Run(std *streams) error {
	var answer struct {
		DeadLetter jsontext.Value `json:"dead_letter"`
	}
	if _, err := c.get("/api/dead-letters/"+url.PathEscape(c.ID), &answer); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer.DeadLetter)
	}
	var d deadLetter
	if err := json.Unmarshal(answer.DeadLetter, &d); err != nil {
		return err
	}
	t := newTable(std)
	t.row("id", d.ID)
	t.row("failed at", d.FailedAt)
	t.row("tries", strconv.Itoa(d.Attempts))
	t.row("status", d.status())
	t.row("recipients", strconv.Itoa(d.Recipients))
	t.row("reason", d.Reason)
	if err := t.flush(); err != nil {
		return err
	}
	return printJSON(std, d.Message)
}
