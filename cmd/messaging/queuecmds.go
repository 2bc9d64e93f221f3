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
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// timing is when a message may be handed out.
type timing struct {
	Delay     time.Duration `help:"Hand it out so long from now at the earliest, such as 90s."`
	DeliverAt string        `placeholder:"TIME" help:"Hand it out from then on (RFC 3339)."`
	TTL       time.Duration `name:"ttl" help:"Do not hand it out later than so long from now."`
	ExpiresAt string        `placeholder:"TIME" help:"Do not hand it out from then on (RFC 3339)."`
}

// add puts the times into a message.
func (t *timing) add(message map[string]any) {
	if t.Delay != 0 {
		message["delay_seconds"] = t.Delay.Seconds()
	}
	if t.TTL != 0 {
		message["ttl_seconds"] = t.TTL.Seconds()
	}
	if t.DeliverAt != "" {
		message["deliver_at"] = t.DeliverAt
	}
	if t.ExpiresAt != "" {
		message["expires_at"] = t.ExpiresAt
	}
}

// safety makes a call safe to repeat.
type safety struct {
	IdempotencyKey string `placeholder:"KEY" help:"Store once, however often this is called with the same key."`
}

func (s *safety) header() http.Header {
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
	remote `embed:""`
	safety `embed:""`
	File   string `arg:"" optional:"" help:"File with a message as JSON on each line; - or nothing is standard input."`
}

// Run sends many messages at once: all of them, or none.
func (c *batchCmd) Run(std *streams) error {
	in := std.in
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("%w: %w", errConfig, err)
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return err
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
		Accepted  int                         `json:"accepted"`
		Messages  []struct{ Sequence uint64 } `json:"messages"`
		Duplicate bool                        `json:"duplicate"`
	}
	if err := json.Unmarshal(answer, &receipt, json.MatchCaseInsensitiveNames(true)); err != nil || len(receipt.Messages) == 0 {
		return fmt.Errorf("the answer is not understood: %w", err)
	}
	_, err = fmt.Fprintf(std.out, "queued %d messages at %d to %d%s\n",
		receipt.Accepted, receipt.Messages[0].Sequence, receipt.Messages[len(receipt.Messages)-1].Sequence, again(receipt.Duplicate))
	return err
}

type broadcastCmd struct {
	remote       `embed:""`
	safety       `embed:""`
	timing       `embed:""`
	Text         string   `arg:"" help:"The text."`
	Users        []string `arg:"" optional:"" help:"Ids of the receivers."`
	UsersFile    string   `placeholder:"FILE" help:"File with the id of a receiver on each line; - is standard input."`
	Sender       string   `default:"0" help:"Id of the sender."`
	Conversation string   `help:"Id of the conversation; each receiver has one of their own where none is given."`
	Priority     string   `help:"high, normal or low."`
	Type         string   `help:"The message's type."`
}

// Run sends one message to many users.
func (c *broadcastCmd) Run(std *streams) error {
	users, err := c.receivers(std)
	if err != nil {
		return err
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
		return fmt.Errorf("%w: the message is not JSON: %w", errConfig, err)
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
		Recipients int    `json:"recipients"`
		Duplicate  bool   `json:"duplicate"`
	}
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "queued %s at %d for %d users%s\n", receipt.ID, receipt.Sequence, receipt.Recipients, again(receipt.Duplicate))
	return err
}

func (c *broadcastCmd) receivers(std *streams) (users []jsontext.Value, err error) {
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
		return nil, fmt.Errorf("%w: %w", errConfig, err)
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
func (c *ackCmd) Run(std *streams) error {
	return settle(std, &c.remote, "ack", c.receiptsFlags, nil)
}

type nackCmd struct {
	remote        `embed:""`
	receiptsFlags `embed:""`
	Delay         time.Duration `help:"Hand them out again so long from now at the earliest."`
}

// Run gives messages back.
func (c *nackCmd) Run(std *streams) error {
	return settle(std, &c.remote, "nack", c.receiptsFlags, map[string]any{"delay_seconds": c.Delay.Seconds()})
}

type extendCmd struct {
	remote        `embed:""`
	receiptsFlags `embed:""`
	Lease         time.Duration `default:"30s" help:"How long the leases last from now on."`
}

// Run lets leases last longer.
func (c *extendCmd) Run(std *streams) error {
	return settle(std, &c.remote, "extend", c.receiptsFlags, map[string]any{"lease": c.Lease.Seconds()})
}

// settle calls with receipts and shows what became of each; the exit status
// says whether all are what was asked for.
func settle(std *streams, r *remote, call string, flags receiptsFlags, more map[string]any) error {
	request := map[string]any{"user_id": id(flags.User), "receipts": flags.Receipts}
	maps.Copy(request, more)
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
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
		return err
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
func (c *sizeCmd) Run(std *streams) error {
	var n struct{ High, Normal, Low, Leased, Delayed, Total uint64 }
	answer, err := c.get("/api/messages/queue/"+url.PathEscape(c.User)+"/size", nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, answer)
	}
	if err := json.Unmarshal(answer, &n, json.MatchCaseInsensitiveNames(true)); err != nil {
		return err
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
func (c *clearCmd) Run(std *streams) error {
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
		return err
	}
	_, err = fmt.Fprintf(std.out, "cleared %d messages\n", said.Cleared)
	return err
}
