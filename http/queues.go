package http

import (
	"net/http"
	"strconv"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
)

// Bounds of what a reader may ask for.
const (
	defaultCount = 10
	maxCount     = 1000
	maxWait      = time.Minute
)

// parseUser reads the user of a path.
func parseUser(params httprouter.Params) (messaging.UserID, error) {
	name := params.ByName("user_id")
	user, ok := messaging.ParseUserID(name)
	if !ok || name == "." || name == ".." {
		return "", messaging.FieldErrorf(messaging.CodeInvalidField, "user_id", "user_id in the path must be 1 to %d characters out of A-Z a-z 0-9 _ . : @ -", messaging.MaxIDLength)
	}
	return user, nil
}

// taking is what a reader asked for.
type taking struct {
	messaging.TakeOptions

	peek bool
}

func parseTaking(r *http.Request) (t taking, err error) {
	q, err := parseQuery(r, "max_count", "peek", "lease", "wait")
	if err != nil {
		return t, err
	}
	if t.Limit, err = q.number("max_count", defaultCount, 1, maxCount); err != nil {
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
		return t, messaging.FieldErrorf(messaging.CodeInvalidField, "peek", "peek takes nothing, so it goes neither with lease nor with wait")
	}
	return t, nil
}

func (s *Server) queue(r *http.Request, params httprouter.Params) (reply, error) {
	user, err := parseUser(params)
	if err != nil {
		return reply{}, err
	}
	t, err := parseTaking(r)
	if err != nil {
		return reply{}, err
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	if t.peek {
		messages, err := b.Queue.Peek(user, t.Limit)
		if err != nil {
			return reply{}, err
		}
		return s.messagesReply(user, within(messages, s.inflight.answerRoom()))
	}
	t.Bytes = s.inflight.answerRoom()
	handout, err := b.Queue.Take(r.Context(), user, t.TakeOptions)
	if err != nil {
		return reply{}, err
	}
	rep, err := s.messagesReply(user, handout.Messages)
	if err != nil {
		handout.Settle(false)
		return reply{}, err
	}
	rep.settle = handout.Settle
	return rep, nil
}

// within gives as many of the messages as there is room for, at least one.
func within(messages []messaging.Message, room int) []messaging.Message {
	for i := range messages {
		if room -= len(messages[i].Body) + messaging.JSONOverhead; room < 0 && i > 0 {
			return messages[:i]
		}
	}
	return messages
}

// messagesReply writes messages. A reader that is slow to read its answer holds
// the memory of it, so that counts too.
func (s *Server) messagesReply(user messaging.UserID, messages []messaging.Message) (reply, error) {
	size := 0
	for i := range messages {
		size += len(messages[i].Body) + messaging.JSONOverhead
	}
	held := s.inflight.hold()
	if err := held.growAnswer(int64(size)); err != nil {
		return reply{}, err
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
	return reply{body: append(body, '}'), buffer: buffer, held: held}, nil
}

func (s *Server) size(_ *http.Request, params httprouter.Params) (reply, error) {
	user, err := parseUser(params)
	if err != nil {
		return reply{}, err
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	counts, err := b.Queue.Size(user)
	if err != nil {
		return reply{}, err
	}
	body := append([]byte(nil), `{"status":"success","user_id":"`...)
	body = append(body, user...)
	body = append(body, '"')
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"high", counts.High},
		{"normal", counts.Normal},
		{"low", counts.Low},
		{"leased", counts.Leased},
		{"delayed", counts.Delayed},
		{"total", counts.Total()},
	} {
		body = append(body, `,"`+c.name+`":`...)
		body = strconv.AppendUint(body, c.n, 10)
	}
	return reply{body: append(body, '}')}, nil
}

func (s *Server) clear(_ *http.Request, params httprouter.Params) (reply, error) {
	user, err := parseUser(params)
	if err != nil {
		return reply{}, err
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	n, err := b.Queue.Clear(user)
	if err != nil {
		return reply{}, err
	}
	body := append([]byte(nil), `{"status":"success","user_id":"`...)
	body = append(body, user...)
	body = append(body, `","cleared":`...)
	body = strconv.AppendUint(body, n, 10)
	return reply{body: append(body, '}')}, nil
}

func (s *Server) acknowledge(r *http.Request, _ httprouter.Params) (reply, error) {
	return s.receipts(r, "", func(q Queue, p messaging.ReceiptsRequest) ([]messaging.Outcome, error) {
		return q.Acknowledge(p.User, p.Receipts)
	})
}

func (s *Server) reject(r *http.Request, _ httprouter.Params) (reply, error) {
	return s.receipts(r, "delay_seconds", func(q Queue, p messaging.ReceiptsRequest) ([]messaging.Outcome, error) {
		return q.Reject(p.User, p.Receipts, p.Delay)
	})
}

func (s *Server) extend(r *http.Request, _ httprouter.Params) (reply, error) {
	return s.receipts(r, "lease", func(q Queue, p messaging.ReceiptsRequest) ([]messaging.Outcome, error) {
		return q.Extend(p.User, p.Receipts, p.Lease)
	})
}

// receipts is what the calls on leases have in common.
func (s *Server) receipts(r *http.Request, option string, do func(q Queue, p messaging.ReceiptsRequest) ([]messaging.Outcome, error)) (rep reply, err error) {
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	err = s.body(r, messaging.MaxBody, 2, func(body []byte) error {
		request, err := messaging.ParseReceipts(body, option)
		if err != nil {
			return err
		}
		outcomes, err := do(b.Queue, request)
		if err != nil {
			return err
		}
		rep.body = appendOutcomes(nil, request.Receipts, outcomes)
		return nil
	})
	return rep, err
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
