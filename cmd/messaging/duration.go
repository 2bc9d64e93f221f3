package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// day is the unit of the settings whose names end in _DAYS.
const day = 24 * time.Hour

// bareNumber matches a number without a unit, with or without a fraction.
var bareNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// parseDuration reads a duration. Flags, the environment and files share one form: a number
// with a unit (500ms, 30s, 5m, 1h30m, 2d), or a bare number of the given unit.
func parseDuration(text string, unit time.Duration) (time.Duration, bool) {
	number := text
	if rest, ok := strings.CutSuffix(text, "d"); ok {
		number, unit = rest, day
	}
	if !bareNumber.MatchString(number) {
		d, err := time.ParseDuration(text)
		return d, err == nil
	}
	n, err := strconv.ParseFloat(number, 64)
	n *= float64(unit)
	if err != nil || math.Abs(n) >= math.MaxInt64 {
		return 0, false
	}
	return time.Duration(math.Round(n)), true
}

// durationText returns a duration without the parts that are 0: 1h, not 1h0m0s.
func durationText(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// durationFlag is a duration on the command line. A bare number is seconds. The tags min
// and max bound it, and the tag whole allows only whole seconds.
type durationFlag struct {
	time.Duration

	given bool
}

// Decode implements [kong.MapperValue].
func (d *durationFlag) Decode(ctx *kong.DecodeContext) error {
	text, err := popText(ctx)
	if err != nil {
		return err
	}
	low, high := durationTag(ctx, "min", 0), durationTag(ctx, "max", math.MaxInt64)
	n, ok := parseDuration(text, time.Second)
	whole := ctx.Value.Tag.Has("whole")
	if !ok || n < low || n > high || (whole && n%time.Second != 0) {
		return usagef("%s %q must be %s", flagName(ctx), text, durationForm(whole, low, high))
	}
	d.Duration, d.given = n, true
	return nil
}

// durationForm describes the values of a flag.
func durationForm(whole bool, low, high time.Duration) string {
	form := "a duration such as 30, 30s or 5m (a bare number is seconds)"
	if whole {
		form = "a duration of whole seconds such as 30, 30s or 5m (a bare number is seconds)"
	}
	if high == math.MaxInt64 {
		return fmt.Sprintf("%s, at least %s", form, durationText(low))
	}
	return fmt.Sprintf("%s, from %s to %s", form, durationText(low), durationText(high))
}

// durationTag returns a bound from the tag of a flag, or otherwise.
func durationTag(ctx *kong.DecodeContext, name string, otherwise time.Duration) time.Duration {
	if d, ok := parseDuration(ctx.Value.Tag.Get(name), time.Second); ok {
		return d
	}
	return otherwise
}
