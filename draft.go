package messaging

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a message's fields, in bytes.
const (
	MaxText        = 64 << 10
	MaxMetadata    = 64 << 10
	MaxMessageType = 64
)

// Draft is a message that a client asked to have sent, read and checked. It
// has no id, time or place yet: the engine's command brings those.
type Draft struct {
	Conversation string // empty only in a broadcast that names none
	Receiver     UserID // empty in a broadcast
	Priority     Priority
	Defaults     Defaults
	// Stored says that the backend has it already ("persist": false).
	Stored bool
	// Due and Expires are from when and until when it may be handed out.
	Due, Expires Moment
	// Key is its idempotency key, or empty.
	Key string
	// Body is the object as it came, less its control fields, and Raw less its
	// idempotency key alone. They alias what was parsed.
	Body, Raw []byte
}

// ParseDraft reads the body of a send. The error is an [*Error] with a code,
// a sentence and the field; the body is not changed.
func ParseDraft(body []byte) (Draft, error) {
	d := newDecoder(body)
	defer d.free()
	p := draftParser{decoder: d}
	if err := p.parse(""); err != nil {
		return Draft{}, err
	}
	end := d.json.InputOffset()
	if err := d.finish(); err != nil {
		return Draft{}, err
	}
	if err := p.require(hasConversation | hasSender | hasReceiver | hasText); err != nil {
		return Draft{}, err
	}
	p.draft.Body = cutOut(body, 0, end, p.cuts)
	p.draft.Raw = cutOut(body, 0, end, p.key)
	return p.draft, nil
}

// fields is the set of the members that were seen.
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
	decoder *decoder
	draft   Draft
	seen    fields
	cuts    []member // control fields, which are not echoed
	key     []member // the idempotency key among them
}

// parse reads the object of a message; prefix names it in errors.
func (p *draftParser) parse(prefix string) error {
	if err := p.decoder.object(prefix, p.member); err != nil {
		return err
	}
	p.draft.Defaults = p.defaults()
	return nil
}

// cutOut gives the object that stands in whole[from:to) without some of its
// members.
func cutOut(whole []byte, from, to int64, cuts []member) []byte {
	object := bytes.TrimLeft(whole[from:to], " \t\r\n,:")
	if len(cuts) == 0 {
		return object
	}
	start := to - int64(len(object))
	kept := make([]byte, 0, len(object))
	for _, cut := range cuts {
		kept = append(kept, whole[start:cut.from]...)
		start = cut.to
	}
	kept = append(kept, whole[start:to]...)
	return bytes.Clone(dropFirstComma(kept)) // what was cut out may have been much
}

// dropFirstComma mends an object whose first member was cut out.
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

func (p *draftParser) defaults() Defaults {
	var d Defaults
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

// require names the first missing field.
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

// member reads one member of the message. Names that are not listed belong to
// the client: their values are checked as JSON and kept.
func (p *draftParser) member(m member) error {
	raw, err := p.decoder.value()
	if err != nil {
		return err
	}
	m.to = p.decoder.json.InputOffset()
	switch string(m.name) { // no copy is made
	case "conversation_id":
		p.seen |= hasConversation
		p.draft.Conversation, err = idString("conversation_id", raw)
	case "sender_id":
		p.seen |= hasSender
		_, err = parseID("sender_id", raw)
	case "receiver_id":
		p.seen |= hasReceiver
		var id string
		id, err = idString("receiver_id", raw)
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
		return p.controlOrUnknown(string(m.name), raw, m)
	}
	return err
}

// controlOrUnknown reads the fields that steer the service, refuses those that
// only it may set, and lets every other go through.
func (p *draftParser) controlOrUnknown(name string, raw jsontext.Value, m member) (err error) {
	switch name {
	case "persist":
		if k := raw.Kind(); k != 't' && k != 'f' {
			return FieldErrorf(CodeInvalidField, name, "persist must be true or false")
		}
		p.draft.Stored = raw.Kind() == 'f'
	case "deliver_at", "delay_seconds":
		err = p.moment(&p.draft.Due, hasDue, name, raw)
	case "expires_at", "ttl_seconds":
		err = p.moment(&p.draft.Expires, hasExpires, name, raw)
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

// moment reads one of the two fields that may give a time.
func (p *draftParser) moment(into *Moment, seen fields, name string, raw jsontext.Value) (err error) {
	if p.seen&seen != 0 {
		return FieldErrorf(CodeInvalidField, name, "%s says again what another field has said: give a time or a number of seconds, not both", name)
	}
	p.seen |= seen
	*into, err = parseMoment(name, raw)
	return err
}

// idString is parseID for an id that is kept.
func idString(field string, raw jsontext.Value) (string, error) {
	id, err := parseID(field, raw)
	return string(id), err
}

// parseID gives the canonical text of an id, which may alias raw.
func parseID(field string, raw jsontext.Value) ([]byte, error) {
	switch kind := raw.Kind(); {
	case kind == '0' && validIDNumber(raw):
		return raw, nil
	case kind == '"':
		s, err := unquote(raw)
		if err == nil && validID(s) {
			return s, nil
		}
	}
	return nil, FieldErrorf(CodeInvalidField, field,
		"%s must be an integer from 0 to 2^63-1 or a string of 1 to %d characters out of A-Z a-z 0-9 _ . : @ -", field, MaxIDLength)
}

// checkString checks a string of at most limit bytes when decoded.
func checkString(field string, raw jsontext.Value, limit int) error {
	if raw.Kind() != '"' {
		return FieldErrorf(CodeInvalidField, field, "%s must be a string", field)
	}
	if len(raw)-2 <= limit {
		return nil
	}
	s, err := unquote(raw)
	if err != nil {
		return Internal(fmt.Errorf("unquote a checked string: %w", err))
	}
	if len(s) > limit {
		return FieldErrorf(CodeTooLarge, field, "%s is longer than %d bytes", field, limit)
	}
	return nil
}

// checkName checks a short string that is not empty.
func checkName(field string, raw jsontext.Value) error {
	if len(raw) == len(`""`) && raw.Kind() == '"' {
		return FieldErrorf(CodeInvalidField, field, "%s must not be empty", field)
	}
	return checkString(field, raw, MaxMessageType)
}

func parsePriority(raw jsontext.Value) (Priority, error) {
	if raw.Kind() == '"' {
		if s, err := unquote(raw); err == nil {
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
