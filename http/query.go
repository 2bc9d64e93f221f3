package http

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
)

// query is the query of a URL. Each name occurs at most once.
type query struct{ values url.Values }

func parseQuery(r *http.Request, known ...string) (query, error) {
	if r.URL.RawQuery == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, messaging.Errorf(messaging.CodeInvalidField, "the query of the URL is malformed")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		given := values[name]
		if !slices.Contains(known, name) {
			return query{}, unknownParameter(known)
		}
		if len(given) != 1 {
			return query{}, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be given only once", name)
		}
	}
	return query{values}, nil
}

// unknownParameter returns an error that lists the parameters of a call. It does not
// repeat the caller's text.
func unknownParameter(known []string) error {
	if len(known) == 0 {
		return messaging.Errorf(messaging.CodeInvalidField, "the query has a parameter, and this call has none")
	}
	return messaging.Errorf(messaging.CodeInvalidField, "the query has an unknown parameter: this call has %s", strings.Join(known, ", "))
}

func (q query) text(name string) string { return q.values.Get(name) }

// count reads a number of 1 or more. It returns most for a larger number, and fallback
// if the parameter is missing.
func (q query) count(name string, fallback, most int) (int, error) {
	given, ok := q.values[name]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.ParseUint(given[0], 10, 64) // no sign
	if errors.Is(err, strconv.ErrRange) {
		return most, nil
	}
	if err != nil || n == 0 {
		return 0, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be a number, 1 or more (above %d it counts as %d)", name, most, most)
	}
	return int(min(n, uint64(most))), nil //nolint:gosec // at most a page
}

func (q query) number(name string, fallback, low, high int) (int, error) {
	given, ok := q.values[name]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.ParseUint(given[0], 10, 31) // no sign
	if err != nil || int(n) < low || int(n) > high {
		return 0, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be a number from %d to %d", name, low, high)
	}
	return int(n), nil
}

// seconds reads a whole number of seconds; it returns 0 if the parameter is missing.
func (q query) seconds(name string, least, most time.Duration) (time.Duration, error) {
	n, err := q.number(name, 0, int(least/time.Second), int(most/time.Second))
	return time.Duration(n) * time.Second, err
}

func (q query) boolean(name string) (bool, error) {
	given, ok := q.values[name]
	if !ok {
		return false, nil
	}
	switch given[0] {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be true or false", name)
}
