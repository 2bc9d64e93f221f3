package messaging

import (
	"errors"
	"fmt"
	"time"
)

// Code is the machine-readable part of an [Error]. Clients branch on it, so a
// published code keeps its meaning.
type Code string

// The codes of errors. Package http maps each to its status.
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

// Error is the error of every refused call: a code for programs, and a sentence for
// people that states what is wrong and where. It never contains data of the request.
type Error struct {
	Code    Code
	Message string
	// Field is the field with the error, or empty.
	Field string
	// Item is the number, from 1, of the message with the error in a batch; 0 if the
	// error concerns no single message.
	Item int
	// RetryAfter is the time after which to retry, for overload; zero otherwise.
	RetryAfter time.Duration
	// Err is the cause of an internal error. It is logged and never sent.
	Err error
}

// Error returns the sentence, and the cause if there is one.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Err)
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an error without a field.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// FieldErrorf returns an error with a field.
func FieldErrorf(code Code, field, format string, args ...any) *Error {
	return &Error{Code: code, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Internal returns an internal error with a cause.
func Internal(err error) *Error {
	return &Error{Code: CodeInternal, Message: "internal error", Err: err}
}

// CodeOf returns the code of an error; for an error that is not an [Error] it is
// [CodeInternal].
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
