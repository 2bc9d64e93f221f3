package http

import (
	"net/http"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/limits"
)

// admit decides whether a request is handled. It refuses, in this order, an unknown
// caller, a caller without the scope of the call, a caller at a limit of its own, and a
// request for which no connection is free. A refused caller gets the response at once,
// without the server waiting for the body.
func (s *Server) admit(w http.ResponseWriter, route route, r *request) error {
	caller, err := s.access.Check(r.Context(), callOf(r.Request, route))
	r.caller = caller
	if err != nil {
		closeRefused(w)
		return s.refused(r, err)
	}
	r.share = s.callers.Of(caller.ID(), limits.Bounds(caller.Limits))
	if err := s.limiter.accept(r.Request, r.share); err != nil {
		closeRefused(w)
		return err
	}
	if err := r.share.Request(); err != nil {
		if r.ContentLength != 0 {
			closeRefused(w)
		}
		return err
	}
	if err := s.limiter.admit(r.Request); err != nil {
		return err
	}
	if route.takes && r.URL.RawQuery != "" {
		s.extendReadDeadline(w)
	}
	return nil
}

// callOf returns the [auth.Call] of a request.
func callOf(r *http.Request, route route) auth.Call {
	h := r.Header
	c := auth.Call{
		Host: r.Host, Authorization: first(h, "Authorization"), Need: route.need,
		// A parameter with such a text is refused, unless it is this one.
		Consumes: route.takes && !strings.Contains(r.URL.RawQuery, "peek=true"),
		Page: auth.Page{
			Origin: first(h, "Origin"), Referer: first(h, "Referer"), FetchSite: first(h, "Sec-Fetch-Site"), Purpose: first(h, "Sec-Purpose"),
			UserAgent: first(h, "User-Agent"), Take: first(h, auth.TakeHeader), TLS: r.TLS != nil,
		},
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificate = r.TLS.VerifiedChains[0][0].Subject.CommonName
	}
	return c
}

// first returns the first value of a header, whose name is in canonical form: unlike
// [http.Header.Get] it does not convert the name for each request.
func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Failed logins of one address above failedLogins in a failedLoginWindow are throttled.
const (
	failedLogins      = 20
	failedLoginWindow = time.Minute
)

// refused returns the error for a refused caller. It counts failed logins, and returns a
// too_many_requests error for an address with too many.
func (s *Server) refused(r *request, err error) error {
	if !auth.IsFailedLogin(err) {
		return err
	}
	addr := s.address(r.Request)
	wait, throttled := s.failures.Fail(addr)
	s.logins.failed(addr, throttled)
	if !throttled {
		s.auditLogin(r)
		return err
	}
	e := messaging.Errorf(messaging.CodeTooManyRequests, "this address has presented %d wrong tokens in a minute", failedLogins)
	e.RetryAfter = wait
	return e
}

// refusedLinger is how long the rest of a refused request is read. Without it, a client
// that still sends may get a reset instead of the response.
const refusedLinger = 500 * time.Millisecond

// closeRefused makes the server send the response to a refused caller at once, without
// waiting for the body, and close the connection shortly afterwards.
func closeRefused(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedLinger)) // on an error, the read deadline of the request holds
}

// extendReadDeadline lets a request wait longer than RequestTimeout. Without it, the
// watch of the connection would fail at the read deadline, and net/http would cancel the
// request as if the client had closed the connection.
func (s *Server) extendReadDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(maxWait + s.config.RequestTimeout)) // on an error it waits for less
}
