package messaging

import "bytes"

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
	numbers    numberSet
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
	// What grows while it fills costs twice as much.
	p.numbers.expected = min(bytes.Count(p.decoder.body, []byte{','}), MaxRecipients)
	p.numbers.ascending = make([]uint64, 0, p.numbers.expected)
	p.broadcast.Receivers.data = make([]byte, 0, len(p.decoder.body)-int(p.decoder.json.InputOffset()))
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
	id, err := parseID("user_ids", raw)
	if err != nil {
		return err
	}
	if p.isNew(id) {
		p.broadcast.Receivers.append(id, raw.Kind() == '"')
	}
	return nil
}

// isNew says whether the id was not named before. Ids that are numbers are
// remembered as numbers, which takes a third of the memory of a million texts.
func (p *broadcastParser) isNew(id []byte) bool {
	if n, ok := idNumber(id); ok && (id[0] != '0' || len(id) == 1) {
		return p.numbers.add(n)
	}
	if p.names == nil {
		p.names = make(map[string]struct{})
	}
	return remember(p.names, string(id))
}

// numberSet is a set of numbers that costs little while they come in ascending
// order, as ids do that a database lists.
type numberSet struct {
	ascending []uint64
	rest      map[uint64]struct{} // all of them, once one is out of order
	expected  int                 // about how many will come
}

// add says whether the number is new.
func (s *numberSet) add(n uint64) bool {
	if s.rest != nil {
		return remember(s.rest, n)
	}
	if len(s.ascending) == 0 || n > s.ascending[len(s.ascending)-1] {
		s.ascending = append(s.ascending, n)
		return true
	}
	s.rest = make(map[uint64]struct{}, s.expected)
	for _, before := range s.ascending {
		s.rest[before] = struct{}{}
	}
	s.ascending = nil
	return remember(s.rest, n)
}

func remember[K comparable](set map[K]struct{}, key K) bool {
	before := len(set)
	set[key] = struct{}{}
	return len(set) > before
}
