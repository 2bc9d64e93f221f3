package messaging

import (
	"errors"
	"fmt"
	"time"
)

// Code is the machine-readable part of an [Error]; clients branch on it, so a
// code once given out keeps its meaning.
type Code string

// The codes that an error can have. Which HTTP status each becomes is decided
// in one place, at the edge.
const (
	CodeInvalidJSON          Code = "invalid_json"
	CodeTooDeep              Code = "too_deep"
	CodeDuplicateKey         Code = "duplicate_key"
	CodeInvalidText          Code = "invalid_text"
	CodeMissingField         Code = "missing_field"
	CodeInvalidField         Code = "invalid_field"
	CodeReservedField        Code = "reserved_field"
	CodeTooLarge             Code = "too_large"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeUnauthorized         Code = "unauthorized"
	CodeForbidden            Code = "forbidden"
	CodeNotFound             Code = "not_found"
	CodeIdempotencyConflict  Code = "idempotency_conflict"
	CodeMethodNotAllowed     Code = "method_not_allowed"
	CodeTooManyRequests      Code = "too_many_requests"
	CodeOverloaded           Code = "overloaded"
	CodeShuttingDown         Code = "shutting_down"
	CodeNotReady             Code = "not_ready"
	CodeDiskFull             Code = "disk_full"
	CodeRequestTimeout       Code = "request_timeout"
	CodeMisdirected          Code = "misdirected_request"
	CodeInternal             Code = "internal"
)

// Error is what every refusal is: a code for programs and a sentence, with
// what is wrong and where, for a person. It never holds what the client sent.
type Error struct {
	Code    Code
	Message string
	// Field is the field that the error is about, or empty.
	Field string
	// Item is the number, from 1, of the message of a batch that the error is
	// about; 0 where it is about none.
	Item int
	// RetryAfter is when to come back, for overload; zero where it makes no sense.
	RetryAfter time.Duration
	// Err is the cause of an internal error; it is logged and never sent.
	Err error
}

// Error gives the sentence, and the cause where there is one.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Err)
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error that is about no field.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// FieldErrorf makes an error about one field.
func FieldErrorf(code Code, field, format string, args ...any) *Error {
	return &Error{Code: code, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Internal wraps a fault of the service's own.
func Internal(err error) *Error {
	return &Error{Code: CodeInternal, Message: "internal error", Err: err}
}

// CodeOf says which code an error has; one that is no [Error] is internal.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
