package http

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/stayafrica/messaging"
)

// query is the part of a URL behind the question mark, each name at most once.
type query struct{ values url.Values }

func parseQuery(r *http.Request, known ...string) (query, error) {
	if r.URL.RawQuery == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, messaging.Errorf(messaging.CodeInvalidField, "the query of the URL cannot be read")
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			return query{}, messaging.Errorf(messaging.CodeInvalidField, "the query has a parameter that this call does not know")
		}
		if len(given) != 1 {
			return query{}, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s is given more than once", name)
		}
	}
	return query{values}, nil
}

func (q query) text(name string) string { return q.values.Get(name) }

func (q query) number(name string, otherwise, low, high int) (int, error) {
	given, ok := q.values[name]
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(given[0], 10, 31) // no sign
	if err != nil || int(n) < low || int(n) > high {
		return 0, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be a number from %d to %d", name, low, high)
	}
	return int(n), nil
}

// seconds reads a whole number of seconds; 0 where none is given.
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
