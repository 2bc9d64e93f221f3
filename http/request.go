package http

import (
	"net/http"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/limits"
)

// request is a request with what the server knows of it.
type request struct {
	*http.Request

	params httprouter.Params
	// id is its X-Request-Id; idValues is the value of that header.
	id       string
	idValues [1]string
	// caller is who makes it, after the checks. share is what the caller may hold; nil
	// means no limits of its own.
	caller *auth.Caller
	share  *limits.Share
	// subject is what the call is about, for the audit log: a user, or an id.
	subject string
}

// user returns the user of the path.
func (r *request) user() (messaging.UserID, error) {
	user, ok := messaging.ParseUserID(r.params.ByName("user_id"))
	if !ok {
		return "", messaging.FieldErrorf(messaging.CodeInvalidField, "user_id",
			"user_id in the path must be 1 to %d characters out of A-Z a-z 0-9 _ . : @ -, and not . or ..", messaging.MaxIDLength)
	}
	return user, nil
}

// userFor returns the user of the path if the caller may make this kind of call for the
// user.
func (r *request) userFor(need auth.Scope) (messaging.UserID, error) {
	user, err := r.user()
	if err != nil {
		return "", err
	}
	return user, r.caller.MayFor(need, user)
}

// requestIDHeader is the header with the id of a request, in the request and the response.
const requestIDHeader = "X-Request-Id"

// maxRequestID is the largest number of characters of an id that a caller gives.
const maxRequestID = 128

// requestID returns the id that a caller gave, or a new one if there is none that can be
// logged: 1 to 128 letters, digits and -_.:=+/@ in one header.
func (s *Server) requestID(h http.Header) string {
	if given := h[requestIDHeader]; len(given) == 1 && isRequestID(given[0]) {
		return given[0]
	}
	return s.ids.next()
}

func isRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '=', c == '+', c == '/', c == '@':
		default:
			return false
		}
	}
	return true
}
