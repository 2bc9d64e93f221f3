package auth

import (
	"slices"
	"time"

	"github.com/stayafrica/messaging"
)

// Caller is who makes a call, and what it may do. It is not changed after its creation,
// so it may be shared.
type Caller struct {
	// Name is the name of the token, or of the certificate. It is empty for the user
	// of a JWT, and if there are no tokens.
	Name string
	// User is the user of a JWT, else empty.
	User messaging.UserID
	// Scope is what the caller may do.
	Scope Scope
	// Take, Peek and Follow are the users for which the caller may do that. Empty
	// means all users.
	Take, Peek, Follow []Pattern
	// Expires is the time from which the caller is refused; zero means never.
	Expires time.Time
	// Limits bound what the caller may hold.
	Limits Limits
	// OwnSendsOnly is true if the caller may send only single messages from its User,
	// which the drain stores.
	OwnSendsOnly bool
}

// Limits bound what one caller may hold of what all callers share. 0 means no limit of
// its own.
type Limits struct {
	// RequestsPerSecond is the rate of a token bucket that holds one second of it, and
	// at least one request.
	RequestsPerSecond float64
	// Connections, LongPolls, Leases and Jobs are numbers at one time.
	Connections, LongPolls, Leases, Jobs int
	// BodyBytes bounds the memory of its requests in progress.
	BodyBytes int64
}

// anonymous is the caller if there are no tokens.
var anonymous = &Caller{Scope: Everything}

// ID returns a text that is unique among callers: the name of a token or certificate, or
// the user with a prefix that no name has.
func (c *Caller) ID() string {
	if c.User != "" {
		return "user:" + string(c.User)
	}
	return c.Name
}

// May returns a forbidden error if the caller may not make a call of this kind for any
// user.
func (c *Caller) May(need Scope) error {
	if c.Scope&need == 0 {
		if need == AnyCall {
			return messaging.Errorf(messaging.CodeForbidden, "this token is only for the metrics")
		}
		return messaging.Errorf(messaging.CodeForbidden, "this token does not have the scope %s", need)
	}
	return nil
}

// MayFor returns a forbidden error if the caller may not make a call of this kind for a
// user.
func (c *Caller) MayFor(need Scope, user messaging.UserID) error {
	if err := c.May(need); err != nil {
		return err
	}
	patterns := c.patterns(need)
	if len(patterns) > 0 && !slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Matches(user) }) {
		return messaging.Errorf(messaging.CodeForbidden, "this token does not have the scope %s for this user", need)
	}
	return nil
}

func (c *Caller) patterns(need Scope) []Pattern {
	switch need {
	case Take:
		return c.Take
	case Peek:
		return c.Peek
	case Follow:
		return c.Follow
	default:
		return nil
	}
}

// MaySend returns a forbidden error if the caller may not send a message.
func (c *Caller) MaySend(d *messaging.Draft) error {
	if err := c.May(Send); err != nil || !c.OwnSendsOnly {
		return err
	}
	if d.Sender != string(c.User) {
		return messaging.FieldErrorf(messaging.CodeForbidden, "sender_id", "a user may send only as themselves: sender_id must be the user of the token")
	}
	if d.NoPersist {
		return messaging.FieldErrorf(messaging.CodeForbidden, "persist", "a user may not send a message that the backend does not store")
	}
	return nil
}

// MaySendMany returns a forbidden error if the caller may not send a batch or a broadcast.
func (c *Caller) MaySendMany() error {
	if err := c.May(Send); err != nil || !c.OwnSendsOnly {
		return err
	}
	return messaging.Errorf(messaging.CodeForbidden, "a user may send only single messages")
}
