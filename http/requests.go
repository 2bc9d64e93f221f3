package http

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/internal/strictjson"
)

// receiptsRequest is a request to ack, nack or extend leases.
type receiptsRequest struct {
	User     messaging.UserID
	Receipts []string
	// Delay is the time until nacked messages are due, and Lease the new duration of
	// extended leases; 0 if the request has none.
	Delay, Lease time.Duration
}

// parseReceipts parses the body of a call on leases. option is the additional field of
// the call: "delay_seconds", "lease", or none.
func parseReceipts(body []byte, option string) (q receiptsRequest, err error) {
	seen, err := parseFields(body, map[string]func(raw jsontext.Value) error{
		"user_id": func(raw jsontext.Value) (err error) {
			var id string
			id, err = messaging.ParseIDField("user_id", raw)
			q.User = messaging.UserID(id)
			return err
		},
		"receipts": func(raw jsontext.Value) (err error) {
			q.Receipts, err = stringList("receipts", raw, messaging.MaxReceipts)
			return err
		},
		"delay_seconds": optionalField(option, "delay_seconds", func(raw jsontext.Value) (err error) {
			q.Delay, err = seconds("delay_seconds", raw, 0, messaging.MaxDelay)
			return err
		}),
		"lease": optionalField(option, "lease", func(raw jsontext.Value) (err error) {
			q.Lease, err = seconds("lease", raw, time.Second, messaging.MaxLease)
			return err
		}),
	})
	if err != nil {
		return receiptsRequest{}, err
	}
	required := []string{"user_id", "receipts"}
	if option == "lease" {
		required = append(required, option)
	}
	return q, requireFields(seen, required...)
}

// optionalField returns read if name is the option, and nil otherwise.
func optionalField(option, name string, read func(raw jsontext.Value) error) func(raw jsontext.Value) error {
	if option != name {
		return nil
	}
	return read
}

// parseRedrive parses the body of a redrive.
func parseRedrive(body []byte) (q messaging.RedriveRequest, err error) {
	seen, err := parseFields(body, map[string]func(raw jsontext.Value) error{
		"ids": func(raw jsontext.Value) (err error) {
			q.IDs, err = stringList("ids", raw, messaging.MaxReceipts)
			for _, id := range q.IDs {
				if !messaging.ValidDeadLetterID(id) {
					return messaging.FieldErrorf(messaging.CodeInvalidField, "ids", "the id of a dead letter is <kind>-<message id>")
				}
			}
			return err
		},
		"reason": func(raw jsontext.Value) (err error) {
			q.Reason, err = text("reason", raw, 1, messaging.MaxReason)
			return err
		},
		"kind": func(raw jsontext.Value) error {
			kind, err := text("kind", raw, 1, messaging.MaxMessageType)
			if q.Kind = messaging.DeadLetterKind(kind); err == nil && q.Kind != messaging.Refused && q.Kind != messaging.Undeliverable {
				return messaging.FieldErrorf(messaging.CodeInvalidField, "kind", `kind must be "refused" or "undeliverable"`)
			}
			return err
		},
		"all": func(raw jsontext.Value) error {
			if q.All = raw.Kind() == 't'; !q.All {
				return messaging.FieldErrorf(messaging.CodeInvalidField, "all", "all must be true, or left out")
			}
			return nil
		},
	})
	if err != nil {
		return messaging.RedriveRequest{}, err
	}
	chosen := 0
	for _, name := range []string{"ids", "reason", "all"} {
		if seen[name] {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return messaging.RedriveRequest{}, messaging.Errorf(messaging.CodeInvalidField, "give exactly one of ids, reason and all")
	case seen["ids"] && seen["kind"]:
		return messaging.RedriveRequest{}, messaging.FieldErrorf(messaging.CodeInvalidField, "kind",
			"kind can be combined with reason or all only: ids contain their kind")
	}
	return q, nil
}

// parseReplay parses the body of a replay.
func parseReplay(body []byte) (q messaging.ReplayRequest, err error) {
	number := func(name string, into *uint64) func(raw jsontext.Value) error {
		return func(raw jsontext.Value) (err error) {
			*into, err = wholeNumber(name, raw, 1, 1<<63-1)
			return err
		}
	}
	timeField := func(name string, into *time.Time) func(raw jsontext.Value) error {
		return func(raw jsontext.Value) error {
			at, err := text(name, raw, 1, messaging.MaxMessageType)
			if err != nil {
				return err
			}
			var ok bool
			if *into, ok = messaging.ParseTime(at); !ok {
				return messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be a time such as 2026-12-31T23:59:59Z (RFC 3339), not before 1970", name)
			}
			return nil
		}
	}
	seen, err := parseFields(body, map[string]func(raw jsontext.Value) error{
		"from_sequence": number("from_sequence", &q.FromSequence),
		"to_sequence":   number("to_sequence", &q.ToSequence),
		"from_time":     timeField("from_time", &q.FromTime),
		"to_time":       timeField("to_time", &q.ToTime),
		"conversation_id": func(raw jsontext.Value) (err error) {
			q.Conversation, err = messaging.ParseIDField("conversation_id", raw)
			return err
		},
		"user_id": func(raw jsontext.Value) error {
			id, err := messaging.ParseIDField("user_id", raw)
			q.User = messaging.UserID(id)
			return err
		},
		"rate": func(raw jsontext.Value) error {
			n, err := wholeNumber("rate", raw, 1, messaging.MaxReplayRate)
			q.Rate = int(n) //nolint:gosec // at most a million
			return err
		},
	})
	switch {
	case err != nil:
		return messaging.ReplayRequest{}, err
	case !seen["from_sequence"] && !seen["from_time"]:
		return messaging.ReplayRequest{}, messaging.FieldErrorf(messaging.CodeMissingField, "from_sequence",
			"from_sequence (1 is the beginning) or from_time is missing")
	case seen["from_sequence"] && seen["from_time"], seen["to_sequence"] && seen["to_time"]:
		return messaging.ReplayRequest{}, messaging.Errorf(messaging.CodeInvalidField, "give each end of the range as a sequence or a time, not both")
	}
	return q, nil
}

// parseFields parses a body that is one object with known fields only, and returns the
// names of the fields that it has. A field whose function is nil is unknown.
func parseFields(body []byte, known map[string]func(raw jsontext.Value) error) (seen map[string]bool, err error) {
	d := strictjson.New(body)
	defer d.Free()
	seen = make(map[string]bool)
	if d.Peek() != '{' {
		if err := d.Skip(); err != nil {
			return nil, messaging.JSONError(err)
		}
		return nil, messaging.Errorf(messaging.CodeInvalidJSON, "Invalid JSON: the body must be one JSON object")
	}
	err = d.Object(func(m strictjson.Member) error {
		name := string(m.Name)
		raw, err := d.Value()
		if err != nil {
			return err
		}
		read := known[name]
		if read == nil {
			return messaging.Errorf(messaging.CodeInvalidField, "the body has an unknown field")
		}
		seen[name] = true
		return read(raw)
	})
	if err == nil {
		err = d.Finish()
	}
	if err != nil {
		return nil, messaging.JSONError(err)
	}
	return seen, nil
}

func requireFields(seen map[string]bool, names ...string) error {
	for _, name := range names {
		if !seen[name] {
			return messaging.FieldErrorf(messaging.CodeMissingField, name, "%s is missing", name)
		}
	}
	return nil
}

// text reads a string.
func text(field string, raw jsontext.Value, shortest, longest int) (string, error) {
	if raw.Kind() == '"' {
		if s, err := strictjson.Unquote(raw); err == nil && len(s) >= shortest && len(s) <= longest {
			return string(s), nil
		}
	}
	return "", messaging.FieldErrorf(messaging.CodeInvalidField, field, "%s must be a string of %d to %d bytes", field, shortest, longest)
}

// stringList reads an array of 1 to most strings.
func stringList(field string, raw jsontext.Value, most int) (list []string, err error) {
	wrong := messaging.FieldErrorf(messaging.CodeInvalidField, field, "%s must be an array of strings", field)
	if raw.Kind() != '[' {
		return nil, wrong
	}
	d := strictjson.New(raw)
	defer d.Free()
	if err := d.Token(); err != nil {
		return nil, err
	}
	for d.Peek() != ']' {
		element, err := d.Value()
		if err != nil {
			return nil, err
		}
		if element.Kind() != '"' {
			return nil, wrong
		}
		if len(list) == most {
			return nil, messaging.FieldErrorf(messaging.CodeTooLarge, field, "%s has more than %d entries", field, most)
		}
		s, err := strictjson.Unquote(element)
		if err != nil {
			return nil, wrong
		}
		list = append(list, string(s))
	}
	if len(list) == 0 {
		return nil, messaging.FieldErrorf(messaging.CodeInvalidField, field, "%s is empty", field)
	}
	return list, nil
}

// seconds reads a number of seconds, fractions allowed.
func seconds(field string, raw jsontext.Value, least, most time.Duration) (time.Duration, error) {
	if raw.Kind() == '0' {
		if n, err := strconv.ParseFloat(string(raw), 64); err == nil && n >= least.Seconds() && n <= most.Seconds() {
			return time.Duration(n * float64(time.Second)), nil
		}
	}
	return 0, messaging.FieldErrorf(messaging.CodeInvalidField, field, "%s must be a number of seconds from %d to %d", field, least/time.Second, most/time.Second)
}

// wholeNumber reads an integer.
func wholeNumber(field string, raw jsontext.Value, least, most uint64) (uint64, error) {
	if raw.Kind() == '0' {
		if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil && n >= least && n <= most {
			return n, nil
		}
	}
	return 0, messaging.FieldErrorf(messaging.CodeInvalidField, field, "%s must be a whole number from %d to %d", field, least, most)
}
