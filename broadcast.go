package messaging

import (
	"bytes"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// MaxRecipients is the largest number of user ids in a broadcast.
const MaxRecipients = 1_000_000

// Broadcast is one message for many users, parsed and validated.
type Broadcast struct {
	Draft     Draft
	Receivers Receivers
}

// ParseBroadcast parses the body of a broadcast. The error is an [*Error].
func ParseBroadcast(body []byte) (Broadcast, error) {
	d := strictjson.New(body)
	defer d.Free()
	p := broadcastParser{decoder: d}
	if err := readObject(d, "", p.member); err != nil {
		return Broadcast{}, JSONError(err)
	}
	if err := d.Finish(); err != nil {
		return Broadcast{}, JSONError(err)
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
	decoder    *strictjson.Decoder
	broadcast  Broadcast
	hasMessage bool
	hasUsers   bool
	numbers    numberSet
	names      map[string]struct{}
}

func (p *broadcastParser) member(m strictjson.Member) error {
	switch string(m.Name) {
	case "message":
		p.hasMessage = true
		return p.message()
	case "user_ids":
		p.hasUsers = true
		return p.users()
	case "idempotency_key":
		return FieldErrorf(CodeInvalidField, "idempotency_key", "send the idempotency key of a broadcast in the Idempotency-Key header")
	}
	return FieldErrorf(CodeInvalidField, "", "a broadcast has message and user_ids only")
}

func (p *broadcastParser) message() error {
	from := p.decoder.Offset()
	dp := draftParser{decoder: p.decoder}
	if err := dp.parse("message"); err != nil {
		return err
	}
	if dp.seen&hasReceiver != 0 {
		return FieldErrorf(CodeInvalidField, "receiver_id", "a broadcast has no receiver_id: its receivers are user_ids")
	}
	if err := dp.require(hasSender | hasText); err != nil {
		return err
	}
	if dp.draft.Key != "" {
		return FieldErrorf(CodeInvalidField, "idempotency_key", "send the idempotency key of a broadcast in the Idempotency-Key header")
	}
	p.broadcast.Draft = dp.draft
	p.broadcast.Draft.Body = cutOut(p.decoder.Body(), from, p.decoder.Offset(), dp.cuts)
	if len(p.broadcast.Draft.Body) > MaxBody {
		return FieldErrorf(CodeTooLarge, "message", "message is larger than %d bytes", MaxBody)
	}
	return nil
}

func (p *broadcastParser) users() error {
	if p.decoder.Peek() != '[' {
		if _, err := p.decoder.Value(); err != nil {
			return err
		}
		return FieldErrorf(CodeInvalidField, "user_ids", "user_ids must be an array of user ids")
	}
	if err := p.decoder.Token(); err != nil {
		return err
	}
	// Growing the slices while they fill takes twice the memory.
	p.numbers.expected = min(bytes.Count(p.decoder.Body(), []byte{','}), MaxRecipients)
	p.numbers.ascending = make([]uint64, 0, p.numbers.expected)
	p.broadcast.Receivers.data = make([]byte, 0, len(p.decoder.Body())-int(p.decoder.Offset()))
	for named := 0; p.decoder.Peek() != ']'; named++ {
		if named == MaxRecipients {
			return FieldErrorf(CodeTooLarge, "user_ids", "user_ids has more than %d ids", MaxRecipients)
		}
		if err := p.user(); err != nil {
			return err
		}
	}
	if err := p.decoder.Token(); err != nil {
		return err
	}
	if p.broadcast.Receivers.Len() == 0 {
		return FieldErrorf(CodeInvalidField, "user_ids", "user_ids names no user")
	}
	return nil
}

func (p *broadcastParser) user() error {
	raw, err := p.decoder.Value()
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

// isNew reports whether the id did not occur before. It stores numeric ids as
// numbers: for a million ids this takes a third of the memory of strings.
func (p *broadcastParser) isNew(id []byte) bool {
	if n, ok := idNumber(id); ok && (id[0] != '0' || len(id) == 1) {
		return p.numbers.add(n)
	}
	if p.names == nil {
		p.names = make(map[string]struct{})
	}
	return remember(p.names, string(id))
}

// numberSet is a set of numbers. It is a slice while the numbers arrive in ascending
// order, as ids from a database usually do, and a map after that.
type numberSet struct {
	ascending []uint64
	rest      map[uint64]struct{} // all numbers, once one is out of order
	expected  int                 // estimate of the final size
}

// add adds a number and reports whether it is new.
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
