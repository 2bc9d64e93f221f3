package http

import (
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/stayafrica/messaging"
)

// AuditEvent is one entry of the audit log: who did what, with which result.
type AuditEvent struct {
	Time   time.Time
	Action string
	// Subject is what the action is about: a user, or the id of a dead letter or a job.
	Subject string
	// Status is the HTTP status of the response, or of one with the same result.
	Status int
	// Token is the name of the token or certificate, and User the user of a JWT. Both
	// are empty for an unknown caller.
	Token string
	User  messaging.UserID
	// Address is the address of the client.
	Address   netip.Addr
	RequestID string
}

// The actions of sends and reads, which the audit log has only with AuditMessages.
const (
	actionSend = "send"
	actionTake = "take"
)

const actionFailedLogin = "failed_login"

// Failed logins in the audit log are bounded, for the case that many addresses guess.
const (
	auditedLogins     = 10 // a second
	auditedLoginBurst = 100
)

func newLoginLimiter() *rate.Limiter { return rate.NewLimiter(auditedLogins, auditedLoginBurst) }

// isAudited reports whether the audit log has an action.
func (s *Server) isAudited(action string) bool {
	isMessage := action == actionSend || action == actionTake
	return s.config.Audit != nil && action != "" && (!isMessage || s.config.AuditMessages)
}

// audit records a request with its status. A caller who was not known has done nothing.
func (s *Server) audit(r *request, action string, status int) {
	if r.caller == nil {
		return
	}
	e := s.auditEvent(r, action, status)
	e.Token, e.User = r.caller.Name, r.caller.User
	s.config.Audit(e)
}

func (s *Server) auditEvent(r *request, action string, status int) AuditEvent {
	subject := r.subject
	for _, p := range r.params {
		subject = p.Value
	}
	return AuditEvent{Time: s.config.Now(), Action: action, Subject: subject, Status: status, Address: s.address(r.Request), RequestID: r.id}
}

// auditLogin records a failed login.
func (s *Server) auditLogin(r *request) {
	if s.config.Audit != nil && s.auditedLogins.Allow() {
		s.config.Audit(s.auditEvent(r, actionFailedLogin, http.StatusUnauthorized))
	}
}
