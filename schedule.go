package messaging

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// Schedule is a time from a client: absolute (At), or relative to now (In). The zero
// Schedule is none.
type Schedule struct {
	At    time.Time
	In    time.Duration
	given bool
}

// Given reports whether the client gave a time.
func (s Schedule) Given() bool { return s.given }

// On returns the absolute time in whole milliseconds; a relative one counts from now.
// It returns the zero time if none was given.
func (s Schedule) On(now time.Time) time.Time {
	if !s.given {
		return time.Time{}
	}
	if s.At.IsZero() {
		return now.Add(s.In).Truncate(time.Millisecond)
	}
	return s.At.Truncate(time.Millisecond)
}

// After returns a schedule with a time relative to now.
func After(d time.Duration) Schedule { return Schedule{In: d, given: true} }

// maxSeconds is a hundred years; a longer time is a mistake.
const maxSeconds = 100 * 365.25 * 24 * 3600

// rfc3339 matches the date-time of RFC 3339, section 5.6. [time.Parse] also accepts
// hours of one digit, a comma before the fraction, and offsets of a day; it refuses
// leap seconds.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// ParseTime parses a time in RFC 3339 format from 1970 to 9999. As in the RFC, T and Z
// may be lower case.
func ParseTime(text string) (at time.Time, ok bool) {
	upper := strings.ToUpper(text)
	at, err := time.Parse(time.RFC3339Nano, upper)
	year := at.UTC().Year()
	return at, err == nil && year >= 1970 && year <= 9999 && rfc3339.MatchString(upper)
}

// parseSchedule parses the value of deliver_at, expires_at, delay_seconds or
// ttl_seconds.
func parseSchedule(field string, raw jsontext.Value) (Schedule, error) {
	if field == "deliver_at" || field == "expires_at" {
		if raw.Kind() == '"' {
			if s, err := strictjson.Unquote(raw); err == nil {
				if at, ok := ParseTime(string(s)); ok {
					return Schedule{At: at, given: true}, nil
				}
			}
		}
		return Schedule{}, FieldErrorf(CodeInvalidField, field, "%s must be a time such as 2026-12-31T23:59:59Z (RFC 3339), not before 1970", field)
	}
	if raw.Kind() == '0' {
		seconds, err := strconv.ParseFloat(string(raw), 64)
		if err == nil && seconds >= 0 && seconds <= maxSeconds && !math.Signbit(seconds) {
			return After(time.Duration(seconds * float64(time.Second))), nil
		}
	}
	return Schedule{}, FieldErrorf(CodeInvalidField, field, "%s must be a number of seconds from 0 to a hundred years", field)
}
