package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// timing holds the flags for the delivery time of a message.
type timing struct {
	Delay     durationFlag `placeholder:"DURATION" help:"Minimum time before it is delivered, such as 90s; a bare number is seconds."`
	DeliverAt string       `placeholder:"TIME" help:"Earliest time of delivery (RFC 3339)."`
	TTL       durationFlag `name:"ttl" placeholder:"DURATION" help:"Time after which it is no longer delivered; a bare number is seconds."`
	ExpiresAt string       `placeholder:"TIME" help:"Time from which it is no longer delivered (RFC 3339)."`
}

// add adds the times to a message.
func (t *timing) add(message map[string]any) {
	if t.Delay.given {
		message["delay_seconds"] = t.Delay.Seconds()
	}
	if t.TTL.given {
		message["ttl_seconds"] = t.TTL.Seconds()
	}
	if t.DeliverAt != "" {
		message["deliver_at"] = t.DeliverAt
	}
	if t.ExpiresAt != "" {
		message["expires_at"] = t.ExpiresAt
	}
}

// idempotencyFlags holds the flag that makes a call safe to repeat.
type idempotencyFlags struct {
	IdempotencyKey string `placeholder:"KEY" help:"Store it only once, even if the call is repeated with the same key."`
}

func (s *idempotencyFlags) header() http.Header {
	h := make(http.Header)
	if s.IdempotencyKey != "" {
		h.Set("Idempotency-Key", s.IdempotencyKey)
	}
	return h
}

// again returns a note for the output of a duplicate, which was not stored again.
func again(duplicate bool) string {
	if duplicate {
		return " (duplicate: the idempotency key was used before)"
	}
	return ""
}

type batchCmd struct {
	remote           `embed:""`
	idempotencyFlags `embed:""`
	File             string `arg:"" optional:"" help:"File with a message as JSON on each line; - or no file is standard input."`
}

// Run sends many messages in one call: all or none.
func (c *batchCmd) Run(std *stdio) error {
	in := std.in
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return c.unreadable(err)
		}
		defer func() { _ = f.Close() }() // opened for reading only
		in = f
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return c.unreadable(err)
	}
	header := c.header()
	header.Set("Content-Type", "application/x-ndjson")
	answer, err := c.send(http.MethodPost, "/api/messages/batch", bytes.NewReader(body), header)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	var receipt struct {
		Accepted  uint64                      `json:"accepted"`
		Messages  []struct{ Sequence uint64 } `json:"messages"`
		Duplicate bool                        `json:"duplicate"`
	}
	if err := json.Unmarshal(answer, &receipt, json.MatchCaseInsensitiveNames(true)); err != nil || len(receipt.Messages) == 0 {
		return c.notOurs()
	}
	place := fmt.Sprintf("at %d", receipt.Messages[0].Sequence)
	if len(receipt.Messages) > 1 {
		place += fmt.Sprintf(" to %d", receipt.Messages[len(receipt.Messages)-1].Sequence)
	}
	_, err = fmt.Fprintf(std.out, "queued %s %s%s\n", plural(receipt.Accepted, "message", "messages"), place, again(receipt.Duplicate))
	return err
}

func (c *batchCmd) unreadable(err error) error {
	return usagef("<file> %q cannot be read: %s; name a file with a message as JSON on each line, or - for standard input", c.File, fileFault(err))
}

type broadcastCmd struct {
	remote           `embed:""`
	idempotencyFlags `embed:""`
	timing           `embed:""`
	Text             string   `arg:"" help:"The text."`
	Users            []string `arg:"" optional:"" help:"Ids of the receivers."`
	UsersFile        string   `placeholder:"FILE" help:"File with the id of a receiver on each line; - is standard input."`
	Sender           string   `default:"0" help:"Id of the sender."`
	Conversation     string   `help:"Id of the conversation; by default each receiver has a separate one."`
	Priority         string   `help:"high, normal or low."`
	Type             string   `help:"Type of the message."`
}

// Run sends one message to many users.
func (c *broadcastCmd) Run(std *stdio) error {
	users, err := c.receivers(std)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		return usagef(`broadcast needs receivers: messaging broadcast "Hello" 7 8 9, or a file of them with --users-file`)
	}
	message := map[string]any{"sender_id": id(c.Sender), "text": c.Text}
	for name, given := range map[string]string{"priority": c.Priority, "message_type": c.Type} {
		if given != "" {
			message[name] = given
		}
	}
	if c.Conversation != "" {
		message["conversation_id"] = id(c.Conversation)
	}
	c.add(message)
	body, err := json.Marshal(map[string]any{"message": message, "user_ids": users}, json.Deterministic(true)) // so that the same call has the same body
	if err != nil {
		return usagef("the message cannot be written as JSON: it must be UTF-8")
	}
	header := c.header()
	header.Set("Content-Type", "application/json")
	answer, err := c.send(http.MethodPost, "/api/messages/broadcast", bytes.NewReader(body), header)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	var receipt struct {
		ID         string `json:"id"`
		Sequence   uint64 `json:"sequence"`
		Recipients uint64 `json:"recipients"`
		Duplicate  bool   `json:"duplicate"`
	}
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return c.notOurs()
	}
	_, err = fmt.Fprintf(std.out, "queued %s at %d for %s%s\n", receipt.ID, receipt.Sequence, plural(receipt.Recipients, "user", "users"), again(receipt.Duplicate))
	return err
}

func (c *broadcastCmd) receivers(std *stdio) (users []jsontext.Value, err error) {
	for _, user := range c.Users {
		users = append(users, id(user))
	}
	if c.UsersFile == "" {
		return users, nil
	}
	var text []byte
	if c.UsersFile == "-" {
		text, err = io.ReadAll(std.in)
	} else {
		text, err = os.ReadFile(c.UsersFile)
	}
	if err != nil {
		return nil, usagef("--users-file %q cannot be read: %s; name a file with the id of a receiver on each line, or - for standard input", c.UsersFile, fileFault(err))
	}
	for user := range strings.FieldsSeq(string(text)) {
		users = append(users, id(user))
	}
	return users, nil
}

type receiptsFlags struct {
	User     string   `arg:"" help:"Id of the queue's user."`
	Receipts []string `arg:"" help:"Receipts that take --lease printed."`
}

type ackCmd struct {
	remote        `embed:""`
	receiptsFlags `embed:""`
}

// Run acknowledges messages.
func (c *ackCmd) Run(std *stdio) error {
	return callWithReceipts(std, &c.remote, "ack", c.receiptsFlags, nil)
}

type nackCmd struct {
	remote        `embed:""`
	receiptsFlags `embed:""`
	Delay         durationFlag `placeholder:"DURATION" max:"24h" help:"Minimum time before they are delivered again, up to 24h; a bare number is seconds."`
}

// Run returns messages to their queue.
func (c *nackCmd) Run(std *stdio) error {
	return callWithReceipts(std, &c.remote, "nack", c.receiptsFlags, map[string]any{"delay_seconds": c.Delay.Seconds()})
}

type extendCmd struct {
	remote        `embed:""`
	receiptsFlags `embed:""`
	Lease         durationFlag `placeholder:"30s" min:"1s" max:"1h" default:"30s" help:"Time from now to the end of the leases, 1s to 1h; a bare number is seconds."`
}

// Run extends leases.
func (c *extendCmd) Run(std *stdio) error {
	return callWithReceipts(std, &c.remote, "extend", c.receiptsFlags, map[string]any{"lease": c.Lease.Seconds()})
}

// callWithReceipts calls with receipts and prints the result of each. The exit status is
// 1 if one is expired or unknown.
func callWithReceipts(std *stdio, r *remote, call string, flags receiptsFlags, more map[string]any) error {
	request := map[string]any{"user_id": id(flags.User), "receipts": flags.Receipts}
	maps.Copy(request, more)
	body, err := json.Marshal(request)
	if err != nil {
		return usagef("the receipts cannot be written as JSON: they must be UTF-8")
	}
	answer, err := r.call(http.MethodPost, "/api/messages/"+call, body)
	if err != nil {
		return err
	}
	var said struct {
		Results []struct {
			Receipt string `json:"receipt"`
			Result  string `json:"result"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return r.notOurs()
	}
	if r.JSON {
		err = printJSON(std, answer)
	} else {
		t := newTable(std, "RECEIPT", "RESULT")
		for _, x := range said.Results {
			t.row(x.Receipt, x.Result)
		}
		err = t.flush()
	}
	for _, x := range said.Results {
		if x.Result == "expired" || x.Result == "unknown" {
			return errQuiet
		}
	}
	return err
}

type sizeCmd struct {
	remote `embed:""`
	User   string `arg:"" help:"Id of the queue's user."`
}

// Run prints the number of messages in a queue.
func (c *sizeCmd) Run(std *stdio) error {
	var n struct{ High, Normal, Low, Leased, Delayed, Total uint64 }
	answer, err := c.get("/api/messages/queue/"+url.PathEscape(c.User)+"/size", nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	if err := json.Unmarshal(answer, &n, json.MatchCaseInsensitiveNames(true)); err != nil {
		return c.notOurs()
	}
	t := newTable(std, "HIGH", "NORMAL", "LOW", "LEASED", "DELAYED", "TOTAL")
	row := make([]string, 0, 6)
	for _, v := range []uint64{n.High, n.Normal, n.Low, n.Leased, n.Delayed, n.Total} {
		row = append(row, strconv.FormatUint(v, 10))
	}
	t.row(row...)
	return t.flush()
}

type clearCmd struct {
	remote `embed:""`
	User   string `arg:"" help:"Id of the queue's user."`
}

// Run empties a queue.
func (c *clearCmd) Run(std *stdio) error {
	answer, err := c.call(http.MethodDelete, "/api/messages/queue/"+url.PathEscape(c.User), nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	var said struct {
		Cleared uint64 `json:"cleared"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return c.notOurs()
	}
	_, err = fmt.Fprintln(std.out, "cleared", plural(said.Cleared, "message", "messages"))
	return err
}
