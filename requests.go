package messaging

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of what the calls on leases take.
const (
	// MaxReceipts is how many receipts one call may name.
	MaxReceipts = 10_000
	// MaxLease is how long a lease may be, MaxDelay how long a message that is
	// given back may be delayed.
	MaxLease = time.Hour
	MaxDelay = 24 * time.Hour
	// MaxReplayRate is how many messages a second a replay may send.
	MaxReplayRate = 1_000_000
)

// ReceiptsRequest is what acknowledges, gives back or extends leases.
type ReceiptsRequest struct {
	User     UserID
	Receipts []string
	// Delay is after how long given back messages are due, Lease what leases are
	// extended to; 0 where nothing was said.
	Delay, Lease time.Duration
}

// ParseReceipts reads the body of a call on leases. option is the one field
// that it may have beside its own: "delay_seconds", "lease", or none.
func ParseReceipts(body []byte, option string) (q ReceiptsRequest, err error) {
	seen, err := parseFields(body, map[string]func(raw jsontext.Value) error{
		"user_id": func(raw jsontext.Value) (err error) {
			var id string
			id, err = idString("user_id", raw)
			q.User = UserID(id)
			return err
		},
		"receipts": func(raw jsontext.Value) (err error) {
			q.Receipts, err = stringList("receipts", raw, MaxReceipts)
			return err
		},
		"delay_seconds": option1(option, "delay_seconds", func(raw jsontext.Value) (err error) {
			q.Delay, err = seconds("delay_seconds", raw, 0, MaxDelay)
			return err
		}),
		"lease": option1(option, "lease", func(raw jsontext.Value) (err error) {
			q.Lease, err = seconds("lease", raw, time.Second, MaxLease)
			return err
		}),
	})
	if err != nil {
		return ReceiptsRequest{}, err
	}
	required := []string{"user_id", "receipts"}
	if option == "lease" {
		required = append(required, option)
	}
	return q, requireFields(seen, required...)
}

// option1 gives the reader of a field where that is the option, else nil.
func option1(option, name string, read func(raw jsontext.Value) error) func(raw jsontext.Value) error {
	if option != name {
		return nil
	}
	return read
}

// ParseRedrive reads the body of a redrive.
func ParseRedrive(body []byte) (q RedriveRequest, err error) {
	seen, err := parseFields(body, map[string]func(raw jsontext.Value) error{
		"ids": func(raw jsontext.Value) (err error) {
			q.IDs, err = stringList("ids", raw, MaxReceipts)
			for _, id := range q.IDs {
				if !ValidDeadLetterID(id) {
					return FieldErrorf(CodeInvalidField, "ids", "the id of a dead letter is <kind>-<message id>")
				}
			}
			return err
		},
		"reason": func(raw jsontext.Value) (err error) {
			q.Reason, err = text("reason", raw, 1, MaxReason)
			return err
		},
		"kind": func(raw jsontext.Value) error {
			kind, err := text("kind", raw, 1, MaxMessageType)
			if q.Kind = DeadLetterKind(kind); err == nil && q.Kind != Refused && q.Kind != Undeliverable {
				return FieldErrorf(CodeInvalidField, "kind", `kind must be "refused" or "undeliverable"`)
			}
			return err
		},
		"all": func(raw jsontext.Value) error {
			if q.All = raw.Kind() == 't'; !q.All {
				return FieldErrorf(CodeInvalidField, "all", "all must be true, or left out")
			}
			return nil
		},
	})
	if err != nil {
		return RedriveRequest{}, err
	}
	chosen := 0
	for _, name := range []string{"ids", "reason", "all"} {
		if seen[name] {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return RedriveRequest{}, Errorf(CodeInvalidField, "say which dead letters: one of ids, reason and all")
	case seen["ids"] && seen["kind"]:
		return RedriveRequest{}, FieldErrorf(CodeInvalidField, "kind", "kind goes with reason or all: ids have their kind")
	}
	return q, nil
}

// ParseReplay reads the body of a replay.
func ParseReplay(body []byte) (q ReplayRequest, err error) {
	number := func(name string, into *uint64) func(raw jsontext.Value) error {
		return func(raw jsontext.Value) (err error) {
			*into, err = wholeNumber(name, raw, 1, 1<<63-1)
			return err
		}
	}
	moment := func(name string, into *time.Time) func(raw jsontext.Value) error {
		return func(raw jsontext.Value) error {
			at, err := text(name, raw, 1, MaxMessageType)
			if err != nil {
				return err
			}
			if *into, err = time.Parse(time.RFC3339Nano, at); err != nil || into.UTC().Year() < 1970 || into.UTC().Year() > 9999 {
				return FieldErrorf(CodeInvalidField, name, "%s must be a time such as 2026-12-31T23:59:59Z (RFC 3339), not before 1970", name)
			}
			return nil
		}
	}
	seen, err := parseFields(body, map[string]func(raw jsontext.Value) error{
		"from_sequence": number("from_sequence", &q.FromSequence),
		"to_sequence":   number("to_sequence", &q.ToSequence),
		"from_time":     moment("from_time", &q.FromTime),
		"to_time":       moment("to_time", &q.ToTime),
		"conversation_id": func(raw jsontext.Value) (err error) {
			q.Conversation, err = idString("conversation_id", raw)
			return err
		},
		"user_id": func(raw jsontext.Value) error {
			id, err := idString("user_id", raw)
			q.User = UserID(id)
			return err
		},
		"rate": func(raw jsontext.Value) error {
			n, err := wholeNumber("rate", raw, 1, MaxReplayRate)
			q.Rate = int(n) //nolint:gosec // at most a million
			return err
		},
	})
	switch {
	case err != nil:
		return ReplayRequest{}, err
	case !seen["from_sequence"] && !seen["from_time"]:
		return ReplayRequest{}, FieldErrorf(CodeMissingField, "from_sequence", "say from where to replay: from_sequence (1 is the beginning) or from_time")
	case seen["from_sequence"] && seen["from_time"], seen["to_sequence"] && seen["to_time"]:
		return ReplayRequest{}, Errorf(CodeInvalidField, "an end of the range is a sequence or a time, not both")
	}
	return q, nil
}

// parseFields reads a body that is one object with known fields and no other,
// and says which were there. A field without a reader is not known either.
func parseFields(body []byte, known map[string]func(raw jsontext.Value) error) (seen map[string]bool, err error) {
	d := newDecoder(body)
	defer d.free()
	seen = make(map[string]bool)
	err = d.object("", func(m member) error {
		name := string(m.name)
		raw, err := d.value()
		if err != nil {
			return err
		}
		read := known[name]
		if read == nil {
			return Errorf(CodeInvalidField, "the body has a field that this call does not know")
		}
		seen[name] = true
		return read(raw)
	})
	if err != nil {
		return nil, err
	}
	return seen, d.finish()
}

func requireFields(seen map[string]bool, names ...string) error {
	for _, name := range names {
		if !seen[name] {
			return FieldErrorf(CodeMissingField, name, "%s is missing", name)
		}
	}
	return nil
}

// text reads a string.
func text(field string, raw jsontext.Value, shortest, longest int) (string, error) {
	if raw.Kind() == '"' {
		if s, err := unquote(raw); err == nil && len(s) >= shortest && len(s) <= longest {
			return string(s), nil
		}
	}
	return "", FieldErrorf(CodeInvalidField, field, "%s must be a string of %d to %d bytes", field, shortest, longest)
}

// stringList reads an array of strings, of which there must be one.
func stringList(field string, raw jsontext.Value, most int) (list []string, err error) {
	wrong := FieldErrorf(CodeInvalidField, field, "%s must be an array of strings", field)
	if raw.Kind() != '[' {
		return nil, wrong
	}
	d := newDecoder(raw)
	defer d.free()
	if _, err := d.json.ReadToken(); err != nil {
		return nil, d.classify(err)
	}
	for d.json.PeekKind() != ']' {
		element, err := d.json.ReadValue()
		if err != nil {
			return nil, d.classify(err)
		}
		if element.Kind() != '"' {
			return nil, wrong
		}
		if len(list) == most {
			return nil, FieldErrorf(CodeTooLarge, field, "%s has more than %d entries", field, most)
		}
		s, err := unquote(element)
		if err != nil {
			return nil, wrong
		}
		list = append(list, string(s))
	}
	if len(list) == 0 {
		return nil, FieldErrorf(CodeInvalidField, field, "%s is empty", field)
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
	return 0, FieldErrorf(CodeInvalidField, field, "%s must be a number of seconds from %d to %d", field, least/time.Second, most/time.Second)
}

// wholeNumber reads an integer.
func wholeNumber(field string, raw jsontext.Value, least, most uint64) (uint64, error) {
	if raw.Kind() == '0' {
		if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil && n >= least && n <= most {
			return n, nil
		}
	}
	return 0, FieldErrorf(CodeInvalidField, field, "%s must be a whole number from %d to %d", field, least, most)
}
