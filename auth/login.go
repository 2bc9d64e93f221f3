package auth

import (
	"errors"

	"github.com/stayafrica/messaging"
)

// loginError is the refusal of a token that was presented.
type loginError struct {
	refusal *messaging.Error
	failed  bool
}

// Error implements error.
func (e *loginError) Error() string { return e.refusal.Error() }

// Unwrap returns the API error.
func (e *loginError) Unwrap() error { return e.refusal }

// failedLogin returns the refusal of a token that may be a guess.
func failedLogin(text string) error {
	return &loginError{messaging.Errorf(messaging.CodeUnauthorized, "%s", text), true}
}

// expiredLogin returns the refusal of a token that was issued, but is not accepted. It is
// no guess.
func expiredLogin(text string) error {
	return &loginError{messaging.Errorf(messaging.CodeUnauthorized, "%s", text), false}
}

// IsFailedLogin reports whether an error of [Access.Check] is the refusal of a token that
// may be a guess: an unknown one or a forged one, but not a missing or an expired one.
func IsFailedLogin(err error) bool {
	e, ok := errors.AsType[*loginError](err)
	return ok && e.failed
}
