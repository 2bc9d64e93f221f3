package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func text(field func(c *Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		*field(c) = s
		return nil
	}
}

// headerText reads a text that is sent as the value of a header, or as a part of one.
func headerText(field func(c *Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if hasControl(s) {
			return errors.New("must not have control characters: a header cannot carry them (is there a line break in it?)")
		}
		*field(c) = s
		return nil
	}
}

// hasControl reports whether a text has bytes that a header must not have.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// secretText reads a token that callers send. It must not have spaces either.
func secretText(field func(c *Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if hasControl(s) || strings.Contains(s, " ") {
			return errors.New("must not have spaces or control characters: no caller could send them")
		}
		*field(c) = s
		return nil
	}
}

func oneOf(field func(c *Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if slices.Contains(allowed, s) {
			*field(c) = s
			return nil
		}
		return fmt.Errorf("must be one of %s", strings.Trim(strings.Join(allowed, ", "), ", "))
	}
}

func boolean(field func(c *Config) *bool) func(*Config, string) error {
	return func(c *Config, s string) error {
		on, ok := parseSwitch(s)
		if !ok {
			return errors.New("must be " + switchForm)
		}
		*field(c) = on
		return nil
	}
}

func integer(low, high int, field func(c *Config) *int) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a number from %d to %d", low, high)
		}
		*field(c) = n
		return nil
	}
}

func duration(low, high time.Duration, field func(c *Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, s string) error {
		d, ok := parseDuration(s, time.Second)
		if !ok || d < low || d > high {
			return fmt.Errorf("must be a duration such as 500ms, 30s or 5m (a bare number is seconds), from %s to %s", durationText(low), durationText(high))
		}
		*field(c) = d
		return nil
	}
}

// maxDays bounds the settings in days: a century.
const maxDays = 36500

// days reads days with fractions, or a duration with its unit, from a millisecond
// to a century.
func days(field func(c *Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, s string) error {
		d, ok := parseDuration(s, day)
		if !ok || d < time.Millisecond || d > maxDays*day {
			return errors.New("must be a number of days, with a fraction or without, or a duration such as 12h or 90d, above 0 and at most 36500 days")
		}
		*field(c) = d
		return nil
	}
}

// daysOrNever reads days, or 0 for never.
func daysOrNever(field func(c *Config) *time.Duration) func(*Config, string) error {
	read := days(field)
	return func(c *Config, s string) error {
		if d, ok := parseDuration(s, day); ok && d == 0 {
			*field(c) = 0
			return nil
		}
		if err := read(c, s); err != nil {
			return errors.New("must be 0 for never, a number of days, or a duration such as 12h or 90d, at most 36500 days")
		}
		return nil
	}
}

// weights reads one weight for each priority.
func weights(c *Config, s string) error {
	if c.Weights = nil; s == "" {
		return nil
	}
	var w engine.Weights
	for part := range strings.SplitSeq(s, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(part), ":")
		p, known := messaging.ParsePriority(name)
		n, err := strconv.Atoi(number)
		if !known || err != nil || n < 1 || n > 1000 || w[p] != 0 {
			return errWeights
		}
		w[p] = n
	}
	if slices.Contains(w[:], 0) {
		return errWeights
	}
	c.Weights = &w
	return nil
}

var errWeights = errors.New("must give high, normal and low a weight from 1 to 1000 each, such as high:8,normal:4,low:1")

// units are the units of sizes. All are binary, with and without the i.
var units = []struct {
	suffix string
	bytes  int64
}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40}, {"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"b", 1}}

func size(low, high int64, field func(c *Config) *int64) func(*Config, string) error {
	return func(c *Config, s string) error {
		digits, unit := strings.ToLower(strings.TrimSpace(s)), int64(1)
		for _, u := range units {
			if rest, ok := strings.CutSuffix(digits, u.suffix); ok {
				digits, unit = strings.TrimSpace(rest), u.bytes
				break
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit || n*unit < low || n*unit > high {
			return fmt.Errorf("must be a number of bytes such as 1048576 or 1MiB, at least %d", low)
		}
		*field(c) = n * unit
		return nil
	}
}

func pattern(field func(c *Config) **regexp.Regexp) func(*Config, string) error {
	return func(c *Config, s string) error {
		re, err := regexp.Compile(s)
		if err != nil {
			return errors.New("must be a regular expression" + patternFault(err))
		}
		*field(c) = re
		return nil
	}
}

// patternFault returns a description of the error in a regular expression, or "".
func patternFault(err error) string {
	if fault, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Sprintf(": it has an error at %q (%s)", fault.Expr, fault.Code)
	}
	return ""
}

func queueMax(c *Config, s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return errors.New("must be a number from 1 to 4294967295")
	}
	c.QueueMax = n
	return nil
}

func djangoURL(c *Config, s string) error {
	if s == "off" {
		c.DjangoURL = ""
		return nil
	}
	if !isAddress(s) {
		return errors.New("must be off, or an address such as http://backend:8000")
	}
	c.DjangoURL = strings.TrimRight(s, "/")
	return nil
}

func serviceURL(c *Config, s string) error {
	if !isAddress(s) {
		return errors.New("must be an address such as http://127.0.0.1:8765")
	}
	c.ServiceURL = strings.TrimRight(s, "/")
	return nil
}

// isAddress reports whether a text is an address to which requests can be sent.
func isAddress(s string) bool {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	_, err = strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16)
	return err == nil
}

// redacted returns an address with its password masked. It returns notAnAddress for a text
// that may have a password elsewhere.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return notAnAddress
	}
	bare := *u
	if bare.User = nil; strings.Contains(bare.String(), "@") {
		return notAnAddress
	}
	return u.Redacted()
}

const notAnAddress = "(not an address)"

func djangoPath(c *Config, s string) error {
	u, err := url.Parse("http://backend" + s)
	if err != nil || !strings.HasPrefix(s, "/") || u.Fragment != "" {
		return errors.New("must be a path that begins with a slash, such as /api/messaging/erlang/persist/")
	}
	c.DjangoPath = s
	return nil
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`)

func headers(c *Config, s string) error {
	c.DjangoHeaders = make(http.Header)
	for part := range strings.SplitSeq(s, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !headerName.MatchString(name) || hasControl(strings.ReplaceAll(value, "\t", " ")) {
			return errors.New("must be headers as Name: value, separated by ;")
		}
		c.DjangoHeaders.Add(name, value)
	}
	return nil
}
