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
)

// reply is what a handler answers. The zero reply with a body is a 200 of JSON.
type reply struct {
	status      int
	contentType string
	body        []byte
	// settle is called once the answer was handed to the kernel, or was not.
	settle func(delivered bool)
	// buffer is what body stands in, to be used again.
	buffer *[]byte
	// held is the memory of the answer, until it is written.
	held *held
}

type handler func(r *http.Request, params httprouter.Params) (reply, error)

// route is one entry of the table of calls. Metrics bear its pattern, never a
// path that a client made up.
type route struct {
	method, path string
	handle       handler
	open         bool // needs no token, no name and no place
	metrics      bool // METRICS_TOKEN opens it too
	waits        bool // it may wait for longer than a request may take to arrive
}

func (s *Server) table() []route {
	return []route{
		{method: http.MethodGet, path: "/health", handle: s.health, open: true},
		{method: http.MethodHead, path: "/health", handle: s.health, open: true},
		{method: http.MethodGet, path: "/health/ready", handle: s.ready, open: true},
		{method: http.MethodHead, path: "/health/ready", handle: s.ready, open: true},
		{method: http.MethodGet, path: "/metrics", handle: s.metrics, metrics: true},
		{method: http.MethodPost, path: "/api/messages/send", handle: s.send},
		{method: http.MethodPost, path: "/api/messages/broadcast", handle: s.broadcast},
		{method: http.MethodPost, path: "/api/messages/batch", handle: s.batch},
		{method: http.MethodGet, path: "/api/messages/queue/:user_id", handle: s.queue, waits: true},
		{method: http.MethodDelete, path: "/api/messages/queue/:user_id", handle: s.clear},
		{method: http.MethodGet, path: "/api/messages/queue/:user_id/size", handle: s.size},
		{method: http.MethodPost, path: "/api/messages/ack", handle: s.acknowledge},
		{method: http.MethodPost, path: "/api/messages/nack", handle: s.reject},
		{method: http.MethodPost, path: "/api/messages/extend", handle: s.extend},
		{method: http.MethodGet, path: "/api/stats", handle: s.stats},
		{method: http.MethodGet, path: "/api/dead-letters", handle: s.listDeadLetters},
		{method: http.MethodPost, path: "/api/dead-letters/redrive", handle: s.redrive},
		{method: http.MethodGet, path: "/api/dead-letters/:id", handle: s.showDeadLetter},
		{method: http.MethodDelete, path: "/api/dead-letters/:id", handle: s.dropDeadLetter},
		{method: http.MethodPost, path: "/api/replay", handle: s.replay},
		{method: http.MethodGet, path: "/api/jobs", handle: s.listJobs},
		{method: http.MethodGet, path: "/api/jobs/:id", handle: s.showJob},
		{method: http.MethodDelete, path: "/api/jobs/:id", handle: s.cancelJob},
		{method: http.MethodGet, path: "/openapi.json", handle: s.openAPI},
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

// methodNotAllowed refuses a method, naming those that the path takes; the ones
// of all calls for what is no path of ours. (The router's own list has OPTIONS.)
func (s *Server) methodNotAllowed(router *httprouter.Router) http.Handler {
	refusal := s.refusal("unknown", func(*http.Request) error {
		return messaging.Errorf(messaging.CodeMethodNotAllowed, "this call does not take that method: see Allow")
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

// ServeHTTP takes every request. What the router must not see is refused here.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.inFlight.Add(1)
	defer s.requests.inFlight.Add(-1)
	if len(r.TransferEncoding) > 0 {
		// A request that declares a length too is read by its chunks; ending the
		// connection leaves nothing behind it that could pass for a request.
		w.Header().Set("Connection", "close")
	}
	server := r.URL.Path == "*" // the target of OPTIONS for the server as a whole
	switch {
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace, server && r.Method == http.MethodOptions:
		s.router.MethodNotAllowed.ServeHTTP(w, r)
	case server, hidesSlash(r.URL.RawPath):
		// The router matches the decoded path: an encoded slash would reach
		// another call than the one that the path spells.
		s.router.NotFound.ServeHTTP(w, r)
	default:
		s.router.ServeHTTP(w, r)
	}
}

func hidesSlash(rawPath string) bool {
	return rawPath != "" && strings.Contains(strings.ToLower(rawPath), "%2f")
}

// serve wraps a handler in what all of them share.
func (s *Server) serve(route route) httprouter.Handle {
	observe := s.requests.route(route.method, route.path)
	return func(w http.ResponseWriter, r *http.Request, params httprouter.Params) {
		began := time.Now()
		if route.waits && r.URL.RawQuery != "" {
			s.letWait(w)
		}
		rep, err := s.call(route, r, params)
		if err != nil {
			rep = s.failure(w, r, err)
		}
		observe(s.write(w, r, rep), time.Since(began))
	}
}

// letWait lets a request wait for longer than it may take to arrive: the server
// would take the end of that time for the end of the client.
func (s *Server) letWait(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(maxWait + s.config.RequestTimeout)) // else it waits for less
}

// call checks who asks and calls the handler. A panic is one request's.
func (s *Server) call(route route, r *http.Request, params httprouter.Params) (rep reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.ErrorContext(r.Context(), "a request panicked", "route", route.path, "panic", p, "stack", string(debug.Stack()))
			err = messaging.Internal(errPanic)
		}
	}()
	if !route.open {
		if err := s.places.admit(r); err != nil {
			return reply{}, err
		}
		if err := s.access.check(r, route.metrics); err != nil {
			return reply{}, err
		}
	}
	return route.handle(r, params)
}

// refusal is a handler for what no route serves.
func (s *Server) refusal(path string, why func(r *http.Request) error) http.Handler {
	observe := s.requests.route("any", path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rep := s.failure(w, r, why(r))
		observe(s.write(w, r, rep), time.Since(began))
	})
}

// write sends a reply, tells its handler whether it left, and gives its status.
func (s *Server) write(w http.ResponseWriter, r *http.Request, rep reply) int {
	rep.status = cmp.Or(rep.status, http.StatusOK)
	header := w.Header()
	header["Content-Type"] = jsonType
	if rep.contentType != "" {
		header.Set("Content-Type", rep.contentType)
	}
	if r.Method == http.MethodGet {
		header["X-Content-Type-Options"] = noSniff
		header["Cache-Control"] = noStore
	}
	// Read before the answer leaves: a client that has it may close at once, and
	// it has had its messages.
	alive := r.Context().Err() == nil
	var err error
	if rep.settle != nil {
		// Flushed before its end, it would be sent in chunks without a length.
		header["Content-Length"] = []string{strconv.Itoa(len(rep.body))}
		err = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.config.RequestTimeout))
	}
	w.WriteHeader(rep.status)
	if err == nil {
		_, err = w.Write(rep.body)
	}
	if rep.settle != nil {
		if err == nil {
			err = http.NewResponseController(w).Flush()
		}
		rep.settle(err == nil && alive)
	}
	if rep.buffer != nil {
		*rep.buffer = rep.body
		freeBuffer(rep.buffer)
	}
	if rep.held != nil {
		rep.held.release()
	}
	return rep.status
}

var (
	jsonType = []string{"application/json"}
	noSniff  = []string{"nosniff"}
	noStore  = []string{"no-store"}
)
