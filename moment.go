package messaging

import (
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Moment is a time as a client gave it: as a date, or as so long from now. The
// zero Moment is none.
type Moment struct {
	At    time.Time
	In    time.Duration
	given bool
}

// Given says whether there is a time at all.
func (m Moment) Given() bool { return m.given }

// On gives the time, in whole milliseconds, or the zero time where none was
// given.
func (m Moment) On(now time.Time) time.Time {
	if !m.given {
		return time.Time{}
	}
	if m.At.IsZero() {
		return now.Add(m.In).Truncate(time.Millisecond)
	}
	return m.At.Truncate(time.Millisecond)
}

// After makes the moment that lies so long from now.
func After(d time.Duration) Moment { return Moment{In: d, given: true} }

// maxSeconds is a hundred years, more than which is a mistake.
const maxSeconds = 100 * 365.25 * 24 * 3600

// parseMoment reads the value of deliver_at and its like.
func parseMoment(field string, raw jsontext.Value) (Moment, error) {
	if field == "deliver_at" || field == "expires_at" {
		if raw.Kind() == '"' {
			if s, err := unquote(raw); err == nil {
				at, err := time.Parse(time.RFC3339Nano, string(s))
				if year := at.UTC().Year(); err == nil && year >= 1970 && year <= 9999 {
					return Moment{At: at, given: true}, nil
				}
			}
		}
		return Moment{}, FieldErrorf(CodeInvalidField, field, "%s must be a time such as 2026-12-31T23:59:59Z (RFC 3339), not before 1970", field)
	}
	if raw.Kind() == '0' {
		seconds, err := strconv.ParseFloat(string(raw), 64)
		if err == nil && seconds >= 0 && seconds <= maxSeconds && !math.Signbit(seconds) {
			return After(time.Duration(seconds * float64(time.Second))), nil
		}
	}
	return Moment{}, FieldErrorf(CodeInvalidField, field, "%s must be a number of seconds from 0 to a hundred years", field)
}
