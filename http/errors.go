package http

import (
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
)

var errPanic = errors.New("panic")

// statuses maps every code to its HTTP status.
var statuses = map[messaging.Code]int{
	messaging.CodeInvalidJSON:          http.StatusBadRequest,
	messaging.CodeTooDeep:              http.StatusBadRequest,
	messaging.CodeDuplicateKey:         http.StatusBadRequest,
	messaging.CodeInvalidText:          http.StatusBadRequest,
	messaging.CodeMissingField:         http.StatusBadRequest,
	messaging.CodeInvalidField:         http.StatusBadRequest,
	messaging.CodeReservedField:        http.StatusBadRequest,
	messaging.CodeTooLarge:             http.StatusRequestEntityTooLarge,
	messaging.CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	messaging.CodeUnauthorized:         http.StatusUnauthorized,
	messaging.CodeForbidden:            http.StatusForbidden,
	messaging.CodeMisdirected:          http.StatusMisdirectedRequest,
	messaging.CodeNotFound:             http.StatusNotFound,
	messaging.CodeIdempotencyConflict:  http.StatusConflict,
	messaging.CodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	messaging.CodeRequestTimeout:       http.StatusRequestTimeout,
	messaging.CodeTooManyRequests:      http.StatusTooManyRequests,
	messaging.CodeOverloaded:           http.StatusServiceUnavailable,
	messaging.CodeShuttingDown:         http.StatusServiceUnavailable,
	messaging.CodeNotReady:             http.StatusServiceUnavailable,
	messaging.CodeDiskFull:             http.StatusInsufficientStorage,
	messaging.CodeInternal:             http.StatusInternalServerError,
}

// failure returns the response of an error. It logs internal errors only: the others
// are the caller's, and there may be many.
func (s *Server) failure(w http.ResponseWriter, r *request, err error) response {
	e, ok := errors.AsType[*messaging.Error](err)
	if !ok {
		e = messaging.Internal(err)
	}
	if e.Code == messaging.CodeInternal {
		s.logger.ErrorContext(r.Context(), "a request failed", "method", r.Method, "request_id", r.id, "error", err)
	}
	status := statuses[e.Code]
	header := w.Header()
	switch status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="messaging"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		header.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds())))))
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		// The rest of the body is still on the connection.
		header.Set("Connection", "close")
	}
	return response{status: status, body: appendError(nil, e, r.id)}
}

func appendError(dst []byte, e *messaging.Error, requestID string) []byte {
	dst = append(dst, `{"status":"error","message":`...)
	dst = appendString(dst, e.Message)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, string(e.Code))
	dst = append(dst, `,"field":`...)
	if e.Field == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, e.Field)
	}
	if e.Item > 0 {
		dst = append(dst, `,"index":`...)
		dst = strconv.AppendInt(dst, int64(e.Item-1), 10)
	}
	dst = append(dst, `,"request_id":"`...)
	dst = append(dst, requestID...) // has no character that JSON escapes
	return append(dst, `"}`...)
}

// appendString appends a JSON string; it is empty if s is not valid UTF-8.
func appendString(dst []byte, s string) []byte {
	quoted, err := jsontext.AppendQuote(dst, s)
	if err != nil {
		return append(dst, `""`...)
	}
	return quoted
}
