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

	"github.com/stayafrica/messaging"
)

type pingCmd struct {
	remote `embed:""`
}

// Run prints whether the service is ready.
func (c *pingCmd) Run(std *stdio) error {
	var state struct {
		Ready, Recovered, Disk, Draining bool
	}
	answer, err := c.call(http.MethodGet, "/health/ready", nil)
	if answer == nil {
		return err
	}
	if e := json.Unmarshal(answer, &state, json.MatchCaseInsensitiveNames(true)); e != nil {
		return c.notOurs()
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

// Run prints the statistics.
func (c *statsCmd) Run(std *stdio) error {
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
		if name == "drain" {
			t.row(name, drainShown(stats))
			continue
		}
		t.row(name, string(stats[name]))
	}
	return t.flush()
}

// drainShown returns the state of the drain for output. If the drain is off or waits for
// the backend, it includes the number of waiting messages.
func drainShown(stats map[string]jsontext.Value) string {
	var state string
	var lag uint64
	if json.Unmarshal(stats["drain"], &state) != nil || json.Unmarshal(stats["drain_lag_messages"], &lag) != nil {
		return string(stats["drain"])
	}
	if state == string(messaging.DrainRunning) {
		return state
	}
	return fmt.Sprintf("%s (%s)", state, plural(lag, "message waits", "messages wait"))
}

type sendCmd struct {
	remote           `embed:""`
	idempotencyFlags `embed:""`
	timing           `embed:""`
	Receiver         string `arg:"" optional:"" help:"Id of the receiver."`
	Text             string `arg:"" optional:"" help:"The text."`
	Conversation     string `default:"0" help:"Id of the conversation."`
	Sender           string `default:"0" help:"Id of the sender."`
	Priority         string `help:"high, normal or low."`
	Type             string `help:"Type of the message."`
	Metadata         string `help:"Metadata, a JSON object."`
	Persist          bool   `negatable:"" default:"true" help:"Send it to the backend; use --no-persist if the backend has it already."`
	Stdin            bool   `negatable:"" help:"Read the whole message as JSON from standard input."`
}

// Run sends one message.
func (c *sendCmd) Run(std *stdio) error {
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
		return c.notOurs()
	}
	_, err = fmt.Fprintf(std.out, "queued %s at %d%s\n", receipt.ID, receipt.Sequence, again(receipt.Again))
	return err
}

func (c *sendCmd) body(std *stdio) ([]byte, error) {
	if c.Stdin {
		return io.ReadAll(std.in)
	}
	if err := c.check(); err != nil {
		return nil, err
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
	if !c.Persist {
		message["persist"] = false
	}
	c.add(message)
	body, err := json.Marshal(message, json.Deterministic(true)) // so that the same call has the same body
	if err != nil {
		return nil, usagef("the message cannot be written as JSON: it must be UTF-8")
	}
	return body, nil
}

// check checks that the required arguments are present and that the metadata is an object.
func (c *sendCmd) check() error {
	metadata := jsontext.Value(c.Metadata)
	switch {
	case c.Receiver == "":
		return usagef(`send needs a receiver and a text: messaging send 789 "Hello" (or the whole message with --stdin)`)
	case c.Text == "":
		return usagef(`send needs a text after the receiver %q: messaging send %s "Hello" (or the whole message with --stdin)`, c.Receiver, printable(c.Receiver))
	case c.Metadata != "" && (!metadata.IsValid() || metadata.Kind() != '{'):
		return usagef(`--metadata %q must be a JSON object, such as '{"color": "red"}'`, shorten(c.Metadata, 100))
	}
	return nil
}

// id returns an id as the backend expects it: digits as a number.
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

type deadListCmd struct {
	remote `embed:""`
	Kind   string `help:"refused or undeliverable."`
	Reason string `help:"Only dead letters with this reason."`
	After  string `help:"Continue after this id."`
	Limit  int    `default:"100" help:"Maximum number of dead letters."`
}

// deadLetter is a dead letter as the service returns it.
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
func (c *deadListCmd) Run(std *stdio) error {
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
		fmt.Fprintf(std.out, "%d of %d; continue with --after %s\n", len(page.DeadLetters), page.Total, *page.Next)
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

// Run prints one dead letter with its message.
func (c *deadShowCmd) Run(std *stdio) error {
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
		return c.notOurs()
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
