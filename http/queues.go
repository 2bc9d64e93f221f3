package http

import (
	"net/http"
	"strconv"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
)

// Bounds of a take.
const (
	defaultCount = 10
	maxCount     = 1000
	maxWait      = time.Minute
)

// takeRequest is the request of a reader: a take, a lease or a peek.
type takeRequest struct {
	messaging.TakeOptions

	peek bool
}

func parseTake(r *http.Request) (t takeRequest, err error) {
	q, err := parseQuery(r, "max_count", "peek", "lease", "wait")
	if err != nil {
		return t, err
	}
	if t.Limit, err = q.count("max_count", defaultCount, maxCount); err != nil {
		return t, err
	}
	if t.peek, err = q.boolean("peek"); err != nil {
		return t, err
	}
	if t.Lease, err = q.seconds("lease", time.Second, messaging.MaxLease); err != nil {
		return t, err
	}
	if t.Wait, err = q.seconds("wait", 0, maxWait); err != nil {
		return t, err
	}
	if t.peek && (t.Lease > 0 || t.Wait > 0) {
		return t, messaging.FieldErrorf(messaging.CodeInvalidField, "peek", "peek takes no messages: it cannot be combined with lease or wait")
	}
	return t, nil
}

// need returns the kind of the call.
func (t *takeRequest) need() auth.Scope {
	if t.peek {
		return auth.Peek
	}
	return auth.Take
}

func (s *Server) queue(r *request) (response, error) {
	user, err := r.user()
	if err != nil {
		return response{}, err
	}
	t, err := parseTake(r.Request)
	if err != nil {
		return response{}, err
	}
	if err := r.caller.MayFor(t.need(), user); err != nil {
		return response{}, err
	}
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	if t.peek {
		messages, err := b.Queue.Peek(user, t.Limit)
		if err != nil {
			return response{}, err
		}
		return s.messagesResponse(r, user, within(messages, s.inflight.ResponseRoom()))
	}
	if t.Wait > 0 {
		if err := r.share.Wait(); err != nil {
			return response{}, err
		}
		defer r.share.EndWait()
	}
	t.Bytes, t.Quota = s.inflight.ResponseRoom(), r.share.LeaseQuota()
	delivery, err := b.Queue.Take(r.Context(), user, t.TakeOptions)
	if err != nil {
		return response{}, err
	}
	resp, err := s.messagesResponse(r, user, delivery.Messages)
	if err != nil {
		delivery.Finish(false)
		return response{}, err
	}
	resp.onSent = delivery.Finish
	// With a lease, messages that no reader acknowledges come back to the queue.
	resp.wantsReader = t.Lease == 0 && len(delivery.Messages) > 0
	return resp, nil
}

// within returns the first messages with at most the given bytes in total, and at least
// one message.
func within(messages []messaging.Message, bytes int) []messaging.Message {
	for i := range messages {
		if bytes -= len(messages[i].Body) + messaging.JSONOverhead; bytes < 0 && i > 0 {
			return messages[:i]
		}
	}
	return messages
}

// messagesResponse returns a response with messages. It reserves the memory of the
// response, because a slow reader holds it.
func (s *Server) messagesResponse(r *request, user messaging.UserID, messages []messaging.Message) (response, error) {
	size := 0
	for i := range messages {
		size += len(messages[i].Body) + messaging.JSONOverhead
	}
	reservation := s.inflight.Hold(r.share.Memory())
	if err := reservation.GrowResponse(int64(size)); err != nil {
		return response{}, err
	}
	buffer := newBuffer()
	body := (*buffer)[:0]
	body = append(body, `{"status":"success","user_id":"`...)
	body = append(body, user...)
	body = append(body, `","messages":[`...)
	for i := range messages {
		if i > 0 {
			body = append(body, ',')
		}
		body = messages[i].AppendJSON(body)
	}
	body = append(body, `],"count":`...)
	body = strconv.AppendInt(body, int64(len(messages)), 10)
	return response{body: append(body, '}'), buffer: buffer, reservation: reservation}, nil
}

func (s *Server) size(r *request) (response, error) {
	user, err := r.userFor(auth.Peek)
	if err != nil {
		return response{}, err
	}
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	counts, err := b.Queue.Size(user)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(sizeResponse{
		success: succeeded(), User: user,
		High: counts.High, Normal: counts.Normal, Low: counts.Low, Leased: counts.Leased, Delayed: counts.Delayed, Total: counts.Total(),
	})
}

func (s *Server) clear(r *request) (response, error) {
	user, err := r.userFor(auth.Take)
	if err != nil {
		return response{}, err
	}
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	n, err := b.Queue.Clear(user)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(clearedResponse{succeeded(), user, n})
}

func (s *Server) acknowledge(r *request) (response, error) {
	return s.receipts(r, "", func(q Queue, p receiptsRequest) ([]messaging.Outcome, error) {
		return q.Acknowledge(p.User, p.Receipts)
	})
}

func (s *Server) reject(r *request) (response, error) {
	return s.receipts(r, "delay_seconds", func(q Queue, p receiptsRequest) ([]messaging.Outcome, error) {
		return q.Nack(p.User, p.Receipts, p.Delay)
	})
}

func (s *Server) extend(r *request) (response, error) {
	return s.receipts(r, "lease", func(q Queue, p receiptsRequest) ([]messaging.Outcome, error) {
		return q.Extend(p.User, p.Receipts, p.Lease)
	})
}

// receipts is the common part of the calls on leases.
func (s *Server) receipts(r *request, option string, do func(q Queue, p receiptsRequest) ([]messaging.Outcome, error)) (resp response, err error) {
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	err = s.body(r, messaging.MaxBody, 2, func(body []byte) error {
		request, err := parseReceipts(body, option)
		if err != nil {
			return err
		}
		if err := r.caller.MayFor(auth.Take, request.User); err != nil {
			return err
		}
		r.subject = string(request.User)
		outcomes, err := do(b.Queue, request)
		if err != nil {
			return err
		}
		resp.body = appendOutcomes(nil, request.Receipts, outcomes)
		return nil
	})
	return resp, err
}

func appendOutcomes(dst []byte, receipts []string, outcomes []messaging.Outcome) []byte {
	dst = append(dst, `{"status":"success","results":[`...)
	for i := range outcomes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"receipt":`...)
		dst = appendString(dst, receipts[i])
		dst = append(dst, `,"result":"`...)
		dst = append(dst, outcomes[i]...)
		dst = append(dst, `"}`...)
	}
	return append(dst, `]}`...)
}
