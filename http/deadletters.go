package http

import (
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
)

// Bounds of a page of dead letters.
const (
	defaultPage = 100
	maxPage     = 1000
)

func (s *Server) listDeadLetters(r *http.Request, _ httprouter.Params) (reply, error) {
	filter, err := parseFilter(r)
	if err != nil {
		return reply{}, err
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	page, err := b.DeadLetters.ListDeadLetters(filter)
	if err != nil {
		return reply{}, err
	}
	size := 0
	for i := range page.DeadLetters {
		size += len(page.DeadLetters[i].Message.Body) + len(page.DeadLetters[i].Reason) + messaging.JSONOverhead
	}
	held := s.inflight.hold() // a slow reader holds the memory of its answer
	if err := held.growAnswer(int64(size)); err != nil {
		return reply{}, err
	}
	body := append([]byte(nil), `{"status":"success","dead_letters":[`...)
	for i := range page.DeadLetters {
		if i > 0 {
			body = append(body, ',')
		}
		body = page.DeadLetters[i].AppendJSON(body)
	}
	body = append(body, `],"count":`...)
	body = strconv.AppendInt(body, int64(len(page.DeadLetters)), 10)
	body = append(body, `,"total":`...)
	body = strconv.AppendInt(body, int64(page.Total), 10)
	body = append(body, `,"next":`...)
	if page.Next == "" {
		body = append(body, "null"...)
	} else {
		body = appendString(body, page.Next)
	}
	return reply{body: append(body, '}'), held: held}, nil
}

func parseFilter(r *http.Request) (f messaging.DeadLetterFilter, err error) {
	q, err := parseQuery(r, "after", "limit", "kind", "reason")
	if err != nil {
		return f, err
	}
	if f.Limit, err = q.number("limit", defaultPage, 1, maxPage); err != nil {
		return f, err
	}
	f.After, f.Reason, f.Kind = q.text("after"), q.text("reason"), messaging.DeadLetterKind(q.text("kind"))
	if f.After != "" && !messaging.ValidDeadLetterID(f.After) {
		return f, messaging.FieldErrorf(messaging.CodeInvalidField, "after", "after must be what an earlier page gave as next")
	}
	if f.Kind != "" && f.Kind != messaging.Refused && f.Kind != messaging.Undeliverable {
		return f, messaging.FieldErrorf(messaging.CodeInvalidField, "kind", `kind must be "refused" or "undeliverable"`)
	}
	return f, nil
}

func (s *Server) showDeadLetter(_ *http.Request, params httprouter.Params) (reply, error) {
	id := params.ByName("id")
	if !messaging.ValidDeadLetterID(id) {
		return reply{}, messaging.FieldErrorf(messaging.CodeInvalidField, "id", "the id of a dead letter is <kind>-<message id>")
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	letter, ok, err := b.DeadLetters.FindDeadLetter(id)
	if err != nil {
		return reply{}, err
	}
	if !ok {
		return reply{}, messaging.Errorf(messaging.CodeNotFound, "there is no such dead letter")
	}
	body := append([]byte(nil), `{"status":"success","dead_letter":`...)
	return reply{body: append(letter.AppendJSON(body), '}')}, nil
}

func (s *Server) dropDeadLetter(_ *http.Request, params httprouter.Params) (reply, error) {
	id := params.ByName("id")
	if !messaging.ValidDeadLetterID(id) {
		return reply{}, messaging.FieldErrorf(messaging.CodeInvalidField, "id", "the id of a dead letter is <kind>-<message id>")
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	ok, err := b.DeadLetters.DropDeadLetter(id)
	if err != nil {
		return reply{}, err
	}
	if !ok {
		return reply{}, messaging.Errorf(messaging.CodeNotFound, "there is no such dead letter")
	}
	body := append([]byte(nil), `{"status":"success","deleted":`...)
	return reply{body: append(appendString(body, id), '}')}, nil
}
