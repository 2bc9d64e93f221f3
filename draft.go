package messaging

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// Limits of a message's fields, in bytes.
const (
	MaxText        = 64 << 10
	MaxMetadata    = 64 << 10
	MaxMessageType = 64
)

// Draft is a message to send, parsed and validated. It has no id, time or sequence
// yet; the engine assigns them.
type Draft struct {
	Conversation string // empty only in a broadcast that names none
	Receiver     UserID // empty in a broadcast
	Sender       string
	Priority     Priority
	Defaulted    DefaultedFields
	// NoPersist is true if the backend already has the message ("persist": false).
	NoPersist bool
	// Due and Expires are the start and the end of the time in which the message may
	// be delivered.
	Due, Expires Schedule
	// Key is its idempotency key, or empty.
	Key string
	// Body is the received object without its control fields. Raw is the received
	// object without its idempotency key. Both may alias the parsed bytes.
	Body, Raw []byte
}

// ParseDraft parses the body of a send. The error is an [*Error] with a code, a
// sentence and the field. ParseDraft does not change the body.
func ParseDraft(body []byte) (Draft, error) {
	d := strictjson.New(body)
	defer d.Free()
	p := draftParser{decoder: d}
	if err := p.parse(""); err != nil {
		return Draft{}, JSONError(err)
	}
	end := d.Offset()
	if err := d.Finish(); err != nil {
		return Draft{}, JSONError(err)
	}
	if err := p.require(hasConversation | hasSender | hasReceiver | hasText); err != nil {
		return Draft{}, err
	}
	p.draft.Body = cutOut(body, 0, end, p.cuts)
	p.draft.Raw = cutOut(body, 0, end, p.key)
	return p.draft, nil
}

// fields is the set of the members that an object has.
type fields uint16

const (
	hasConversation fields = 1 << iota
	hasSender
	hasReceiver
	hasText
	hasType
	hasPriority
	hasMetadata
	hasDue
	hasExpires
)

type draftParser struct {
	decoder *strictjson.Decoder
	draft   Draft
	seen    fields
	cuts    []strictjson.Member // control fields, which are not echoed
	key     []strictjson.Member // the idempotency key, which is also in cuts
}

// parse reads the object of a message. Errors name it by prefix.
func (p *draftParser) parse(prefix string) error {
	if err := readObject(p.decoder, prefix, p.member); err != nil {
		return err
	}
	p.draft.Defaulted = p.defaults()
	return nil
}

// cutOut returns the object in whole[from:to) without the members of cuts. The
// result aliases whole only if cuts is empty.
func cutOut(whole []byte, from, to int64, cuts []strictjson.Member) []byte {
	object := bytes.TrimLeft(whole[from:to], " \t\r\n,:")
	if len(cuts) == 0 {
		return object
	}
	start := to - int64(len(object))
	kept := make([]byte, 0, len(object))
	for _, cut := range cuts {
		kept = append(kept, whole[start:cut.From]...)
		start = cut.To
	}
	kept = append(kept, whole[start:to]...)
	return bytes.Clone(dropFirstComma(kept)) // the members that were cut may be large
}

// dropFirstComma removes the leading comma of an object whose first member was cut.
func dropFirstComma(object []byte) []byte {
	inside := bytes.TrimLeft(object[1:], " \t\r\n")
	if len(inside) == 0 || inside[0] != ',' {
		return object
	}
	inside = inside[1:]
	object = object[len(object)-len(inside)-1:]
	object[0] = '{'
	return object
}

func (p *draftParser) defaults() DefaultedFields {
	var d DefaultedFields
	if p.seen&hasType == 0 {
		d |= DefaultType
	}
	if p.seen&hasPriority == 0 {
		d |= DefaultPriority
		p.draft.Priority = Normal
	}
	if p.seen&hasMetadata == 0 {
		d |= DefaultMetadata
	}
	return d
}

// require returns an error for the first missing field.
func (p *draftParser) require(want fields) error {
	for _, f := range []struct {
		bit  fields
		name string
	}{
		{hasConversation, "conversation_id"}, {hasSender, "sender_id"}, {hasReceiver, "receiver_id"}, {hasText, "text"},
	} {
		if want&f.bit != 0 && p.seen&f.bit == 0 {
			return FieldErrorf(CodeMissingField, f.name, "%s is missing", f.name)
		}
	}
	return nil
}

// member reads one member of the message. It keeps members that the service does not
// know, and only checks that their values are valid JSON.
func (p *draftParser) member(m strictjson.Member) error {
	raw, err := p.decoder.Value()
	if err != nil {
		return err
	}
	m.To = p.decoder.Offset()
	if k := raw.Kind(); k == '0' || k == '{' || k == '[' {
		if err := checkNumbers(string(m.Name), raw); err != nil {
			return err
		}
	}
	switch string(m.Name) { // no copy is made
	case "conversation_id":
		p.seen |= hasConversation
		p.draft.Conversation, err = ParseIDField("conversation_id", raw)
	case "sender_id":
		p.seen |= hasSender
		p.draft.Sender, err = ParseIDField("sender_id", raw)
	case "receiver_id":
		p.seen |= hasReceiver
		var id string
		id, err = ParseIDField("receiver_id", raw)
		p.draft.Receiver = UserID(id)
	case "text":
		p.seen |= hasText
		err = checkString("text", raw, MaxText)
	case "message_type":
		p.seen |= hasType
		err = checkName("message_type", raw)
	case "priority":
		p.seen |= hasPriority
		p.draft.Priority, err = parsePriority(raw)
	case "metadata":
		p.seen |= hasMetadata
		err = checkMetadata(raw)
	default:
		return p.controlOrUnknown(string(m.Name), raw, m)
	}
	return err
}

// controlOrUnknown reads control fields, refuses the fields that only the service
// sets, and accepts every other field.
func (p *draftParser) controlOrUnknown(name string, raw jsontext.Value, m strictjson.Member) (err error) {
	switch name {
	case "persist":
		if k := raw.Kind(); k != 't' && k != 'f' {
			return FieldErrorf(CodeInvalidField, name, "persist must be true or false")
		}
		p.draft.NoPersist = raw.Kind() == 'f'
	case "deliver_at", "delay_seconds":
		err = p.schedule(&p.draft.Due, hasDue, name, raw)
	case "expires_at", "ttl_seconds":
		err = p.schedule(&p.draft.Expires, hasExpires, name, raw)
	case "idempotency_key":
		p.draft.Key, err = idempotencyKey(raw)
		p.key = append(p.key, m)
	case "id", "sequence", "created_at", "receipt", "deliveries":
		return FieldErrorf(CodeReservedField, name, "%s is set by the service and cannot be sent", name)
	default:
		return nil
	}
	p.cuts = append(p.cuts, m)
	return err
}

// schedule reads one of the two fields that set the same time, and refuses the second.
func (p *draftParser) schedule(into *Schedule, seen fields, name string, raw jsontext.Value) (err error) {
	if p.seen&seen != 0 {
		return FieldErrorf(CodeInvalidField, name, "%s sets a time that another field has set: give a time or a number of seconds, not both", name)
	}
	p.seen |= seen
	*into, err = parseSchedule(name, raw)
	return err
}

// ParseIDField returns the canonical text of the id in a field. The error is an
// [*Error] with the field.
func ParseIDField(field string, raw jsontext.Value) (string, error) {
	id, err := parseID(field, raw)
	return string(id), err
}

// parseID returns the canonical text of an id, which may alias raw.
func parseID(field string, raw jsontext.Value) ([]byte, error) {
	switch kind := raw.Kind(); {
	case kind == '0' && validIDNumber(raw):
		return raw, nil
	case kind == '"':
		s, err := strictjson.Unquote(raw)
		if err == nil && validID(s) {
			return s, nil
		}
	}
	return nil, FieldErrorf(CodeInvalidField, field,
		"%s must be an integer from 0 to 2^63-1 or a string of 1 to %d characters out of A-Z a-z 0-9 _ . : @ -, and not . or ..", field, MaxIDLength)
}

// checkString checks that a value is a string of at most limit bytes after decoding.
func checkString(field string, raw jsontext.Value, limit int) error {
	if raw.Kind() != '"' {
		return FieldErrorf(CodeInvalidField, field, "%s must be a string", field)
	}
	if len(raw)-2 <= limit {
		return nil
	}
	s, err := strictjson.Unquote(raw)
	if err != nil {
		return Internal(fmt.Errorf("unquote a checked string: %w", err))
	}
	if len(s) > limit {
		return FieldErrorf(CodeTooLarge, field, "%s is longer than %d bytes", field, limit)
	}
	return nil
}

// checkName checks that a value is a string of 1 to MaxMessageType bytes.
func checkName(field string, raw jsontext.Value) error {
	if len(raw) == len(`""`) && raw.Kind() == '"' {
		return FieldErrorf(CodeInvalidField, field, "%s must not be empty", field)
	}
	return checkString(field, raw, MaxMessageType)
}

func parsePriority(raw jsontext.Value) (Priority, error) {
	if raw.Kind() == '"' {
		if s, err := strictjson.Unquote(raw); err == nil {
			if p, ok := ParsePriority(string(s)); ok {
				return p, nil
			}
		}
	}
	return Normal, FieldErrorf(CodeInvalidField, "priority", `priority must be "high", "normal" or "low"`)
}

func checkMetadata(raw jsontext.Value) error {
	if raw.Kind() != '{' {
		return FieldErrorf(CodeInvalidField, "metadata", "metadata must be a JSON object")
	}
	if len(raw) > MaxMetadata {
		return FieldErrorf(CodeTooLarge, "metadata", "metadata is larger than %d bytes", MaxMetadata)
	}
	return nil
}
