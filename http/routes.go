package http

import (
	"cmp"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/limits"
)

// response is the result of a handler. A response without a status and a content type
// has status 200 and is JSON.
type response struct {
	status      int
	contentType string
	body        []byte
	// stream, if set, writes the body instead, piece by piece. Each write has
	// RequestTimeout. If stream returns an error, the connection is closed, so that the
	// client sees that the body is not complete.
	stream func(w *streamWriter) error
	// onSent, if set, is called once: with true after the response was passed to the
	// kernel, or with false if that failed.
	onSent func(delivered bool)
	// wantsReader is true if the response is written only while the client has not
	// closed its side, because onSent(true) cannot be undone.
	wantsReader bool
	// buffer is the pooled buffer of body, or nil.
	buffer *[]byte
	// reservation is the memory of the response; it is released after the write.
	reservation *limits.Reservation
}

type handler func(r *request) (response, error)

// route is one entry of the table of calls. Metrics have its pattern as a label, never
// the path of a request.
type route struct {
	method, path string
	handle       handler
	public       bool       // not subject to the limit of connections, the host check and tokens
	need         auth.Scope // one of these kinds; the handler checks the user
	takes        bool       // it may be a plain take; it may wait longer than RequestTimeout
	action       string     // of the audit log; empty for none
}

func (s *Server) table() []route {
	return []route{
		{method: http.MethodGet, path: "/health", handle: s.health, public: true},
		{method: http.MethodHead, path: "/health", handle: s.health, public: true},
		{method: http.MethodGet, path: "/health/ready", handle: s.ready, public: true},
		{method: http.MethodHead, path: "/health/ready", handle: s.ready, public: true},
		{method: http.MethodGet, path: "/metrics", handle: s.metrics, need: auth.Metrics},
		{method: http.MethodPost, path: "/api/messages/send", handle: s.send, need: auth.Send, action: actionSend},
		{method: http.MethodPost, path: "/api/messages/broadcast", handle: s.broadcast, need: auth.Send, action: actionSend},
		{method: http.MethodPost, path: "/api/messages/batch", handle: s.batch, need: auth.Send, action: actionSend},
		{method: http.MethodGet, path: "/api/messages/queue/:user_id", handle: s.queue, need: auth.Take | auth.Peek, takes: true, action: actionTake},
		{method: http.MethodDelete, path: "/api/messages/queue/:user_id", handle: s.clear, need: auth.Take, action: "clear"},
		{method: http.MethodGet, path: "/api/messages/queue/:user_id/size", handle: s.size, need: auth.Peek},
		{method: http.MethodPost, path: "/api/messages/ack", handle: s.acknowledge, need: auth.Take, action: actionTake},
		{method: http.MethodPost, path: "/api/messages/nack", handle: s.reject, need: auth.Take, action: actionTake},
		{method: http.MethodPost, path: "/api/messages/extend", handle: s.extend, need: auth.Take, action: actionTake},
		{method: http.MethodGet, path: "/api/stats", handle: s.stats, need: auth.Operate},
		{method: http.MethodGet, path: "/api/dead-letters", handle: s.listDeadLetters, need: auth.Operate},
		{method: http.MethodPost, path: "/api/dead-letters/redrive", handle: s.redrive, need: auth.Operate, action: "redrive"},
		{method: http.MethodGet, path: "/api/dead-letters/:id", handle: s.showDeadLetter, need: auth.Operate},
		{method: http.MethodDelete, path: "/api/dead-letters/:id", handle: s.dropDeadLetter, need: auth.Operate, action: "drop_dead_letter"},
		{method: http.MethodPost, path: "/api/replay", handle: s.replay, need: auth.Operate, action: "replay"},
		{method: http.MethodGet, path: "/api/jobs", handle: s.listJobs, need: auth.Operate},
		{method: http.MethodGet, path: "/api/jobs/:id", handle: s.showJob, need: auth.Operate},
		{method: http.MethodDelete, path: "/api/jobs/:id", handle: s.cancelJob, need: auth.Operate, action: "cancel_job"},
		{method: http.MethodGet, path: "/openapi.json", handle: s.openAPI, need: auth.AnyCall},
	}
}

func (s *Server) routes() *httprouter.Router {
	router := httprouter.New()
	router.RedirectTrailingSlash = false
	router.RedirectFixedPath = false
	router.HandleOPTIONS = false
	for _, r := range s.table() {
		router.Handle(r.method, r.path, s.serve(r))
	}
	router.NotFound = s.refusal("unknown", func(*http.Request) error {
		return messaging.Errorf(messaging.CodeNotFound, "there is no such call")
	})
	router.MethodNotAllowed = s.methodNotAllowed(router)
	return router
}

// methodNotAllowed refuses a method. Allow has the methods of the path, or the methods
// of all calls for an unknown path. (The router's own list includes OPTIONS.)
func (s *Server) methodNotAllowed(router *httprouter.Router) http.Handler {
	refusal := s.refusal("unknown", func(*http.Request) error {
		return messaging.Errorf(messaging.CodeMethodNotAllowed, "this call does not have that method: see Allow")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var here, anywhere []string
		for _, route := range s.table() {
			anywhere = append(anywhere, route.method)
			if handle, _, _ := router.Lookup(route.method, r.URL.Path); handle != nil {
				here = append(here, route.method)
			}
		}
		if len(here) == 0 {
			here = anywhere
		}
		slices.Sort(here)
		w.Header().Set("Allow", strings.Join(slices.Compact(here), ", "))
		refusal.ServeHTTP(w, r)
	})
}

// ServeHTTP implements [http.Handler]. It refuses the requests that the router must not
// see.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.inFlight.Add(1)
	defer s.requests.inFlight.Add(-1)
	if len(r.TransferEncoding) > 0 {
		// net/http ignores the length of a chunked request that declares one too.
		// Closing the connection ensures that no rest of the body is read as a request
		// (request smuggling).
		w.Header().Set("Connection", "close")
	}
	server := r.URL.Path == "*" // OPTIONS * is for the server as a whole
	switch {
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace, server && r.Method == http.MethodOptions:
		s.router.MethodNotAllowed.ServeHTTP(w, r)
	case server, hidesSlash(r.URL.RawPath):
		// The router matches the decoded path, so an encoded slash could select
		// another call than the path.
		s.router.NotFound.ServeHTTP(w, r)
	default:
		s.router.ServeHTTP(w, r)
	}
}

func hidesSlash(rawPath string) bool {
	return rawPath != "" && strings.Contains(strings.ToLower(rawPath), "%2f")
}

// serve returns the HTTP handler of a route: the checks, the handler, the response, the
// metrics and the audit log.
func (s *Server) serve(route route) httprouter.Handle {
	observe := s.requests.route(route.method, route.path)
	audited := s.isAudited(route.action)
	return func(w http.ResponseWriter, of *http.Request, params httprouter.Params) {
		began := time.Now()
		r := s.newRequest(w, of, params)
		resp, err := s.call(w, route, r)
		if err != nil {
			resp = s.failure(w, r, err)
		}
		status := s.write(w, r, resp)
		observe(status, time.Since(began))
		if audited {
			s.audit(r, route.action, status)
		}
	}
}

// newRequest returns a request with its id, which the response has too.
func (s *Server) newRequest(w http.ResponseWriter, of *http.Request, params httprouter.Params) *request {
	r := &request{Request: of, params: params, id: s.requestID(of.Header)}
	r.idValues[0] = r.id
	w.Header()[requestIDHeader] = r.idValues[:]
	return r
}

// call checks the request and calls the handler. A panic fails this request only.
func (s *Server) call(w http.ResponseWriter, route route, r *request) (resp response, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.ErrorContext(r.Context(), "a request panicked", "route", route.path, "request_id", r.id, "panic", p, "stack", string(debug.Stack()))
			err = messaging.Internal(errPanic)
		}
	}()
	if !route.public {
		if err := s.admit(w, route, r); err != nil {
			return response{}, err
		}
	}
	return route.handle(r)
}

// refusal returns a handler for requests without a route.
func (s *Server) refusal(path string, why func(r *http.Request) error) http.Handler {
	observe := s.requests.route("any", path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if r.ContentLength != 0 {
			closeRefused(w)
		}
		of := s.newRequest(w, r, nil)
		resp := s.failure(w, of, why(r))                 //nolint:contextcheck // the request has it
		observe(s.write(w, of, resp), time.Since(began)) //nolint:contextcheck // the request has it
	})
}

// write sends a response, reports to its handler whether it was sent, and returns its
// status.
func (s *Server) write(w http.ResponseWriter, r *request, resp response) int {
	resp.status = cmp.Or(resp.status, http.StatusOK)
	header := w.Header()
	header["Content-Type"] = jsonType
	if resp.contentType != "" {
		header.Set("Content-Type", resp.contentType)
	}
	if r.Method == http.MethodGet {
		header["X-Content-Type-Options"] = noSniff
		header["Cache-Control"] = noStore
	}
	// Checked before the write: a client that closes the connection after it read the
	// response has received its messages.
	if resp.wantsReader && hasEnded(r.Request) {
		resp.onSent(false)
		resp.release()
		return s.write(w, r, s.failure(w, r, errReaderEnded))
	}
	if resp.stream != nil {
		w.WriteHeader(resp.status)
		s.writeStream(w, r.Request, resp)
		return resp.status
	}
	var err error
	if resp.onSent != nil {
		// Without a length, a flush before the end of the handler makes net/http send
		// chunks.
		header["Content-Length"] = []string{strconv.Itoa(len(resp.body))}
		err = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.config.RequestTimeout))
	}
	w.WriteHeader(resp.status)
	if err == nil {
		_, err = w.Write(resp.body)
	}
	if resp.onSent != nil {
		if err == nil {
			err = http.NewResponseController(w).Flush()
		}
		resp.onSent(err == nil)
	}
	resp.release()
	return resp.status
}

// errReaderEnded is the error of a plain take whose client has closed its side of the
// connection. The service cannot tell it from a client that has left.
var errReaderEnded = messaging.Errorf(messaging.CodeRequestTimeout,
	"the client closed its side of the connection before the response: nothing was taken; keep the connection open until the response arrives, or use lease")

// hasEnded reports whether the client of a request has left, or may have left.
func hasEnded(r *http.Request) bool {
	if r.Context().Err() != nil {
		return true
	}
	c := connOf(r)
	return c != nil && c.ended()
}

// release frees the buffer and the reservation of the response.
func (resp *response) release() {
	if resp.buffer != nil {
		*resp.buffer = resp.body
		freeBuffer(resp.buffer)
	}
	if resp.reservation != nil {
		resp.reservation.Release()
	}
}

var (
	jsonType = []string{"application/json"}
	noSniff  = []string{"nosniff"}
	noStore  = []string{"no-store"}
)
