package main

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// usageError is an error that only the caller can fix: in a flag, an argument, a setting
// or a file. Its text names the place, the value and the remedy. It matches [errConfig],
// whose exit status is 2.
type usageError struct{ text string }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func (e *usageError) Error() string { return e.text }

// Is reports whether target is [errConfig].
func (e *usageError) Is(target error) bool { return target == errConfig }

// mappers returns the options that read flags and arguments, with this program's errors.
func mappers() []kong.Option {
	options := []kong.Option{
		kong.KindMapper(reflect.String, kong.MapperFunc(decodeText)),
		kong.KindMapper(reflect.Bool, switchMapper{}),
	}
	for _, kind := range []reflect.Kind{reflect.Int, reflect.Int64, reflect.Uint64} {
		options = append(options, kong.KindMapper(kind, kong.MapperFunc(decodeNumber)))
	}
	return options
}

// flagName returns a flag or an argument as the caller writes it.
func flagName(ctx *kong.DecodeContext) string {
	if ctx.Value.Flag != nil {
		return "--" + ctx.Value.Name
	}
	return "<" + ctx.Value.Name + ">"
}

// popText removes the value of a flag or an argument from the command line and returns it.
func popText(ctx *kong.DecodeContext) (string, error) {
	token := ctx.Scan.Peek()
	switch {
	case token.IsEOL():
		return "", usagef("%s needs a value", flagName(ctx))
	case !token.IsValue():
		return "", usagef("%s needs a value: if that is %q, write %s=%s", flagName(ctx), token.String(), flagName(ctx), token.String())
	}
	return ctx.Scan.Pop().String(), nil
}

func decodeText(ctx *kong.DecodeContext, target reflect.Value) error {
	text, err := popText(ctx)
	if err == nil {
		target.SetString(text)
	}
	return err
}

// decodeNumber reads a whole number; the tags min and max bound it.
func decodeNumber(ctx *kong.DecodeContext, target reflect.Value) error {
	text, err := popText(ctx)
	if err != nil {
		return err
	}
	signed := target.CanInt()
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if !signed {
		low = 0
	}
	low, high = numberTag(ctx, "min", low), numberTag(ctx, "max", high)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		return usagef("%s %q must be a whole number%s", flagName(ctx), text, numberBounds(low, high))
	}
	if signed {
		target.SetInt(n)
	} else {
		target.SetUint(uint64(n)) //nolint:gosec // not negative
	}
	return nil
}

func numberBounds(low, high int64) string {
	switch {
	case high != math.MaxInt64:
		return fmt.Sprintf(" from %d to %d", low, high)
	case low != math.MinInt64:
		return fmt.Sprintf(", at least %d", low)
	}
	return ""
}

// numberTag returns a bound from the tag of a flag, or otherwise.
func numberTag(ctx *kong.DecodeContext, name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(ctx.Value.Tag.Get(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// switchMapper reads a boolean flag: --flag, --no-flag, --flag=true.
type switchMapper struct{}

// IsBool implements [kong.BoolMapper].
func (switchMapper) IsBool() bool { return true }

// Decode implements [kong.Mapper].
func (switchMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	on, err := popSwitch(ctx)
	if err == nil {
		target.SetBool(on)
	}
	return err
}

// settingSwitch is the flag of a boolean setting. It holds the text of the setting, or ""
// if the flag was not given.
type settingSwitch string

// IsBool implements [kong.BoolMapperValue].
func (*settingSwitch) IsBool() bool { return true }

// Decode implements [kong.MapperValue].
func (s *settingSwitch) Decode(ctx *kong.DecodeContext) error {
	on, err := popSwitch(ctx)
	if err == nil {
		*s = settingSwitch(strconv.FormatBool(on))
	}
	return err
}

// popSwitch removes the value of a switch, if there is one, from the command line. Kong has
// already inverted the value of --no-flag.
func popSwitch(ctx *kong.DecodeContext) (bool, error) {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return true, nil
	}
	value := ctx.Scan.Pop().Value
	if on, ok := value.(bool); ok {
		return on, nil
	}
	on, ok := parseSwitch(fmt.Sprint(value))
	if !ok {
		return false, usagef("%s %q must be %s", flagName(ctx), value, switchForm)
	}
	return on, nil
}

// switchForm describes the values of boolean flags and settings.
const switchForm = "true or false (or 1, 0, yes, no)"

func parseSwitch(text string) (on, ok bool) {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		return true, true
	case "false", "0", "no", "off":
		return false, true
	}
	return false, false
}
