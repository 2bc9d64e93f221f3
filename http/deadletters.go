package http

import (
	"bytes"
	"net/http"

	"github.com/stayafrica/messaging"
)

// Bounds of a page of dead letters.
const (
	defaultPage = 100
	maxPage     = 1000
)

func (s *Server) listDeadLetters(r *request) (response, error) {
	filter, err := parseFilter(r.Request)
	if err != nil {
		return response{}, err
	}
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	page, err := b.DeadLetters.ListDeadLetters(filter)
	if err != nil {
		return response{}, err
	}
	size := 0
	for i := range page.DeadLetters {
		size += len(page.DeadLetters[i].Message.Body) + len(page.DeadLetters[i].Reason) + messaging.JSONOverhead
	}
	reservation := s.inflight.Hold(r.share.Memory()) // a slow reader holds the memory of its response
	if err := reservation.GrowResponse(int64(size)); err != nil {
		return response{}, err
	}
	resp, err := deadLettersResponse(&page)
	if err != nil {
		reservation.Release()
		return response{}, err
	}
	resp.reservation = reservation
	return resp, nil
}

func deadLettersResponse(page *messaging.DeadLetterPage) (resp response, err error) {
	content := deadLettersPage{success: succeeded(), Count: len(page.DeadLetters), Total: page.Total}
	if page.Next != "" {
		content.Next = &page.Next
	}
	letters := make([][]byte, len(page.DeadLetters))
	for i := range letters {
		if letters[i], err = deadLetterJSON(&page.DeadLetters[i]); err != nil {
			return response{}, err
		}
	}
	if resp, err = jsonResponse(content); err != nil {
		return response{}, err
	}
	resp.body = withMember(resp.body, "dead_letters", func(dst []byte) []byte {
		return append(append(append(dst, '['), bytes.Join(letters, []byte{','})...), ']')
	})
	return resp, nil
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
		return f, messaging.FieldErrorf(messaging.CodeInvalidField, "after", "after must be the next of an earlier page")
	}
	if f.Kind != "" && f.Kind != messaging.Refused && f.Kind != messaging.Undeliverable {
		return f, messaging.FieldErrorf(messaging.CodeInvalidField, "kind", `kind must be "refused" or "undeliverable"`)
	}
	return f, nil
}

func (s *Server) showDeadLetter(r *request) (response, error) {
	id := r.params.ByName("id")
	if !messaging.ValidDeadLetterID(id) {
		return response{}, messaging.FieldErrorf(messaging.CodeInvalidField, "id", "the id of a dead letter is <kind>-<message id>")
	}
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	letter, ok, err := b.DeadLetters.FindDeadLetter(id)
	if err != nil {
		return response{}, err
	}
	if !ok {
		return response{}, messaging.Errorf(messaging.CodeNotFound, "there is no such dead letter")
	}
	text, err := deadLetterJSON(&letter)
	if err != nil {
		return response{}, err
	}
	resp, err := jsonResponse(succeeded())
	if err == nil {
		resp.body = withMember(resp.body, "dead_letter", func(dst []byte) []byte { return append(dst, text...) })
	}
	return resp, err
}

func (s *Server) dropDeadLetter(r *request) (response, error) {
	id := r.params.ByName("id")
	if !messaging.ValidDeadLetterID(id) {
		return response{}, messaging.FieldErrorf(messaging.CodeInvalidField, "id", "the id of a dead letter is <kind>-<message id>")
	}
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	ok, err := b.DeadLetters.DropDeadLetter(id)
	if err != nil {
		return response{}, err
	}
	if !ok {
		return response{}, messaging.Errorf(messaging.CodeNotFound, "there is no such dead letter")
	}
	return jsonResponse(deletedResponse{succeeded(), id})
}
