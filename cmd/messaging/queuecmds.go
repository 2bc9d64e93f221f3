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

// timing is when a message may be handed out.
type timing struct {
	Delay     durationFlag `placeholder:"DURATION" help:"Hand it out so long from now at the earliest, such as 90s; a bare number is seconds."`
	DeliverAt string       `placeholder:"TIME" help:"Hand it out from then on (RFC 3339)."`
	TTL       durationFlag `name:"ttl" placeholder:"DURATION" help:"Do not hand it out later than so long from now; a bare number is seconds."`
	ExpiresAt string       `placeholder:"TIME" help:"Do not hand it out from then on (RFC 3339)."`
}

// add puts the times into a message.
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

// idempotencyFlags makes a call safe to repeat.
type idempotencyFlags struct {
	IdempotencyKey string `placeholder:"KEY" help:"Store once, however often this is called with the same key."`
}

func (s *idempotencyFlags) header() http.Header {
	h := make(http.Header)
	if s.IdempotencyKey != "" {
		h.Set("Idempotency-Key", s.IdempotencyKey)
	}
	return h
}

// again says in a table that nothing new was stored.
func again(duplicate bool) string {
	if duplicate {
		return " (before: the idempotency key was used already)"
	}
	return ""
}

type batchCmd struct {
	remote           `embed:""`
	idempotencyFlags `embed:""`
	File             string `arg:"" optional:"" help:"File with a message as JSON on each line; - or nothing is standard input."`
}

// Run sends many messages at once: all of them, or none.
func (c *batchCmd) Run(std *stdio) error {
	in := std.in
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return c.unreadable(err)
		}
		defer func() { _ = f.Close() }() // it was only read
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
	Conversation     string   `help:"Id of the conversation; each receiver has one of their own where none is given."`
	Priority         string   `help:"high, normal or low."`
	Type             string   `help:"The message's type."`
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
	body, err := json.Marshal(map[string]any{"message": message, "user_ids": users}, json.Deterministic(true)) // the same call has the same body
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
	User     string   `arg:"" help:"Whose queue."`
	Receipts []string `arg:"" help:"Receipts, as take --lease gave them."`
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
	Delay         durationFlag `placeholder:"DURATION" max:"24h" help:"Hand them out again so long from now at the earliest, up to 24h; a bare number is seconds."`
}

// Run gives messages back.
func (c *nackCmd) Run(std *stdio) error {
	return callWithReceipts(std, &c.remote, "nack", c.receiptsFlags, map[string]any{"delay_seconds": c.Delay.Seconds()})
}

type extendCmd struct {
	remote        `embed:""`
	receiptsFlags `embed:""`
	Lease         durationFlag `placeholder:"30s" min:"1s" max:"1h" default:"30s" help:"How long the leases last from now on, 1s to 1h; a bare number is seconds."`
}

// Run lets leases last longer.
func (c *extendCmd) Run(std *stdio) error {
	return callWithReceipts(std, &c.remote, "extend", c.receiptsFlags, map[string]any{"lease": c.Lease.Seconds()})
}

// callWithReceipts calls with receipts and shows what became of each; the exit status
// says whether all are what was asked for.
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
	User   string `arg:"" help:"Whose queue."`
}

// Run counts a queue.
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
	User   string `arg:"" help:"Whose queue."`
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
