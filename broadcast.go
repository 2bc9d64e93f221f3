package messaging

import (
	"strconv"
)

// MaxRecipients is how many user ids a broadcast may name.
const MaxRecipients = 1_000_000

// Broadcast is one message for many users, read and checked.
type Broadcast struct {
	Draft     Draft
	Receivers Receivers
}

// ParseBroadcast reads the body of a broadcast. The error is an [*Error].
func ParseBroadcast(body []byte) (Broadcast, error) {
	d := newDecoder(body)
	defer d.free()
	p := broadcastParser{decoder: d}
	if err := d.object("", p.member); err != nil {
		return Broadcast{}, err
	}
	if err := d.finish(); err != nil {
		return Broadcast{}, err
	}
	if !p.hasMessage {
		return Broadcast{}, FieldErrorf(CodeMissingField, "message", "message is missing")
	}
	if !p.hasUsers {
		return Broadcast{}, FieldErrorf(CodeMissingField, "user_ids", "user_ids is missing")
	}
	return p.broadcast, nil
}

type broadcastParser struct {
	decoder    *decoder
	broadcast  Broadcast
	hasMessage bool
	hasUsers   bool
	numbers    map[uint64]struct{}
	names      map[string]struct{}
}

func (p *broadcastParser) member(m member) error {
	switch string(m.name) {
	case "message":
		p.hasMessage = true
		return p.message()
	case "user_ids":
		p.hasUsers = true
		return p.users()
	case "idempotency_key":
		return FieldErrorf(CodeInvalidField, "idempotency_key", "a broadcast takes its idempotency key from the Idempotency-Key header")
	}
	return FieldErrorf(CodeInvalidField, "", "a broadcast has message and user_ids, and nothing else")
}

func (p *broadcastParser) message() error {
	from := p.decoder.json.InputOffset()
	dp := draftParser{decoder: p.decoder}
	if err := dp.parse("message"); err != nil {
		return err
	}
	if dp.seen&hasReceiver != 0 {
		return FieldErrorf(CodeInvalidField, "receiver_id", "receiver_id does not belong in a broadcast: user_ids says who receives it")
	}
	if err := dp.require(hasSender | hasText); err != nil {
		return err
	}
	if dp.draft.Key != "" {
		return FieldErrorf(CodeInvalidField, "idempotency_key", "a broadcast takes its idempotency key from the Idempotency-Key header")
	}
	p.broadcast.Draft = dp.draft
	p.broadcast.Draft.Body = cutOut(p.decoder.body, from, p.decoder.json.InputOffset(), dp.cuts)
	if len(p.broadcast.Draft.Body) > MaxBody {
		return FieldErrorf(CodeTooLarge, "message", "message is larger than %d bytes", MaxBody)
	}
	return nil
}

func (p *broadcastParser) users() error {
	if p.decoder.json.PeekKind() != '[' {
		if _, err := p.decoder.value(); err != nil {
			return err
		}
		return FieldErrorf(CodeInvalidField, "user_ids", "user_ids must be an array of user ids")
	}
	if _, err := p.decoder.json.ReadToken(); err != nil {
		return p.decoder.classify(err)
	}
	for named := 0; p.decoder.json.PeekKind() != ']'; named++ {
		if named == MaxRecipients {
			return FieldErrorf(CodeTooLarge, "user_ids", "user_ids has more than %d ids", MaxRecipients)
		}
		if err := p.user(); err != nil {
			return err
		}
	}
	if _, err := p.decoder.json.ReadToken(); err != nil {
		return p.decoder.classify(err)
	}
	if p.broadcast.Receivers.Len() == 0 {
		return FieldErrorf(CodeInvalidField, "user_ids", "user_ids names no user")
	}
	return nil
}

func (p *broadcastParser) user() error {
	raw, err := p.decoder.value()
	if err != nil {
		return err
	}
	id, err := idString("user_ids", raw)
	if err != nil {
		return err
	}
	if !p.isNew(id) {
		return nil
	}
	p.broadcast.Receivers.Append(Receiver{User: UserID(id), Quoted: raw.Kind() == '"'})
	return nil
}

// isNew says whether the id was not named before. Ids that are numbers are
// remembered as numbers, which takes a third of the memory of a million texts.
func (p *broadcastParser) isNew(id string) bool {
	if n, err := strconv.ParseUint(id, 10, 64); err == nil && (id[0] != '0' || id == "0") {
		return remember(&p.numbers, n)
	}
	return remember(&p.names, id)
}

func remember[K comparable](set *map[K]struct{}, key K) bool {
	if *set == nil {
		*set = make(map[K]struct{})
	}
	before := len(*set)
	(*set)[key] = struct{}{}
	return len(*set) > before
}
