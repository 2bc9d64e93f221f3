package http

import (
	"bytes"
	"net/http"
	"net/url"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
)

func (s *Server) health(*http.Request, httprouter.Params) (reply, error) {
	body := append([]byte(nil), `{"status":"ok","service":"messaging_service","timestamp":`...)
	body = strconv.AppendInt(body, s.config.Now().Unix(), 10)
	return reply{body: append(body, '}')}, nil
}

// ready is green when requests would be served: recovered, a disk that takes
// writes, and not stopping.
func (s *Server) ready(*http.Request, httprouter.Params) (reply, error) {
	b := s.backend.Load()
	recovered, draining := b != nil, s.draining.Load()
	disk := recovered && b.DiskOK()
	ready := recovered && disk && !draining
	rep := reply{status: http.StatusOK}
	word := "success"
	if !ready {
		rep.status, word = http.StatusServiceUnavailable, "error"
	}
	rep.body = append(rep.body, `{"status":"`+word+`"`...)
	for _, f := range []struct {
		name string
		is   bool
	}{{"ready", ready}, {"recovered", recovered}, {"disk", disk}, {"draining", draining}} {
		rep.body = append(rep.body, `,"`+f.name+`":`...)
		rep.body = strconv.AppendBool(rep.body, f.is)
	}
	rep.body = append(rep.body, '}')
	return rep, nil
}

func (s *Server) metrics(*http.Request, httprouter.Params) (reply, error) {
	var text bytes.Buffer
	s.writeMetrics(&text)
	return reply{contentType: "text/plain; version=0.0.4; charset=utf-8", body: text.Bytes()}, nil
}

func (s *Server) send(r *http.Request, _ httprouter.Params) (rep reply, err error) {
	b, err := s.openForWrite(r)
	if err != nil {
		return reply{}, err
	}
	err = s.body(r, maxSend, 1, func(body []byte) error {
		draft, err := messaging.ParseDraft(body)
		if err != nil {
			return err
		}
		receipt, err := b.Queue.Send(draft)
		if err != nil {
			return err
		}
		rep.buffer = newBuffer()
		rep.body = appendReceipt((*rep.buffer)[:0], "Message queued", receipt, false)
		return nil
	})
	return rep, err
}

// broadcastWeight is how many bytes of memory a byte of a broadcast's body
// takes while its receivers are told apart.
const broadcastWeight = 4

func (s *Server) broadcast(r *http.Request, _ httprouter.Params) (rep reply, err error) {
	b, err := s.openForWrite(r)
	if err != nil {
		return reply{}, err
	}
	err = s.body(r, maxBroadcast, broadcastWeight, func(body []byte) error {
		broadcast, err := messaging.ParseBroadcast(body)
		if err != nil {
			return err
		}
		receipt, err := b.Queue.Broadcast(broadcast)
		if err != nil {
			return err
		}
		rep.body = appendReceipt(nil, "Broadcast queued", receipt, true)
		return nil
	})
	return rep, err
}

// openForWrite gives the backend for a call that stores something. A header
// that asks for what this version does not do is refused: ignoring it would
// break the promise that it stands for.
func (s *Server) openForWrite(r *http.Request) (*Backend, error) {
	if _, ok := r.Header["Idempotency-Key"]; ok {
		return nil, messaging.FieldErrorf(messaging.CodeInvalidField, "Idempotency-Key", "Idempotency-Key is not offered by this version, so nothing was stored: send without it")
	}
	return s.open()
}

func appendReceipt(dst []byte, text string, receipt messaging.Receipt, recipients bool) []byte {
	dst = append(dst, `{"status":"success","message":"`...)
	dst = append(dst, text...)
	if recipients {
		dst = append(dst, `","recipients":`...)
		dst = strconv.AppendInt(dst, int64(receipt.Recipients), 10)
		dst = append(dst, `,"id":"`...)
	} else {
		dst = append(dst, `","id":"`...)
	}
	dst = messaging.AppendID(dst, receipt.ID)
	dst = append(dst, `","sequence":`...)
	dst = strconv.AppendUint(dst, receipt.Sequence, 10)
	return append(dst, '}')
}

// Bounds of max_count.
const (
	defaultCount = 10
	maxCount     = 1000
)

func (s *Server) queue(r *http.Request, params httprouter.Params) (reply, error) {
	name := params.ByName("user_id")
	user, ok := messaging.ParseUserID(name)
	if !ok || name == "." || name == ".." {
		return reply{}, messaging.FieldErrorf(messaging.CodeInvalidField, "user_id", "user_id in the path must be 1 to %d characters out of A-Z a-z 0-9 _ . : @ -", messaging.MaxIDLength)
	}
	q, err := parseQuery(r, "max_count", "peek")
	if err != nil {
		return reply{}, err
	}
	limit, err := q.number("max_count", defaultCount, 1, maxCount)
	if err != nil {
		return reply{}, err
	}
	peek, err := q.boolean("peek")
	if err != nil {
		return reply{}, err
	}
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	if peek {
		messages, err := b.Queue.Peek(user, limit)
		return messagesReply(user, messages), err
	}
	handout, err := b.Queue.Take(user, limit)
	if err != nil {
		return reply{}, err
	}
	rep := messagesReply(user, handout.Messages)
	rep.settle = handout.Settle
	return rep, nil
}

func messagesReply(user messaging.UserID, messages []messaging.Message) reply {
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
	return reply{body: append(body, '}'), buffer: buffer}
}

func (s *Server) stats(*http.Request, httprouter.Params) (reply, error) {
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	st := b.Stats()
	counters := []byte(nil)
	for i, c := range []struct {
		name  string
		value uint64
	}{
		{"messages_processed", st.Accepted},
		{"messages_persisted", st.Persisted},
		{"persistence_failures", st.Refused},
		{"persistence_errors", st.Unreached},
		{"messages_taken", st.Taken},
		{"messages_evicted", st.Evicted},
	} {
		if i > 0 {
			counters = append(counters, ',')
		}
		counters = append(counters, `"`+c.name+`":`...)
		counters = strconv.AppendUint(counters, c.value, 10)
	}
	body := append([]byte(nil), `{"status":"success",`...)
	body = append(body, counters...)
	body = append(body, `,"queue_messages":`...)
	body = strconv.AppendInt(body, st.Queued, 10)
	body = append(body, `,"drain_lag_messages":`...)
	body = strconv.AppendUint(body, st.LagMessages, 10)
	body = append(body, `,"drain_lag_seconds":`...)
	body = strconv.AppendFloat(body, st.LagTime.Seconds(), 'f', 3, 64)
	body = append(body, `,"uptime_seconds":`...)
	body = strconv.AppendInt(body, int64(s.config.Now().Sub(s.started).Seconds()), 10)
	body = append(body, `,"memory":{"total":`...)
	body = strconv.AppendUint(body, memoryTotal(), 10)
	body = append(body, `},"process_count":`...)
	body = strconv.AppendInt(body, int64(runtime.NumGoroutine()), 10)
	body = append(body, `,"counters":{`...)
	body = append(body, counters...)
	return reply{body: append(body, "}}"...)}, nil
}

// memoryTotal is all memory that the runtime has mapped and not given back.
func memoryTotal() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// query is the part of a URL behind the question mark, each name at most once.
type query struct{ values url.Values }

func parseQuery(r *http.Request, known ...string) (query, error) {
	if r.URL.RawQuery == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, messaging.Errorf(messaging.CodeInvalidField, "the query of the URL cannot be read")
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			return query{}, messaging.Errorf(messaging.CodeInvalidField, "the query has a parameter that this call does not know")
		}
		if len(given) != 1 {
			return query{}, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s is given more than once", name)
		}
	}
	return query{values}, nil
}

func (q query) text(name string) string { return q.values.Get(name) }

func (q query) number(name string, otherwise, low, high int) (int, error) {
	given, ok := q.values[name]
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.Atoi(given[0])
	if err != nil || n < low || n > high {
		return 0, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be a number from %d to %d", name, low, high)
	}
	return n, nil
}

func (q query) boolean(name string) (bool, error) {
	given, ok := q.values[name]
	if !ok {
		return false, nil
	}
	switch given[0] {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be true or false", name)
}
