package messaging

import (
	"bytes"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// Bounds of a number in a message. Beyond them some readers refuse the whole
// document: Python's json refuses integers of more than 4,300 digits, and the
// largest double is 1.8e308.
const (
	// MaxIntegerDigits is the largest number of digits of an integer literal.
	MaxIntegerDigits = 308
	// MaxNumberLength is the largest number of characters of any number.
	MaxNumberLength = 330
)

// plainNumber is a length up to which every number without an exponent is within the
// bounds.
const plainNumber = 300

// checkNumbers refuses a value with a number outside the bounds. The error contains
// the name of the member only if the name is a valid id, which bounds its length and
// characters.
func checkNumbers(field string, raw jsontext.Value) error {
	if unreadableNumber(raw) == nil {
		return nil
	}
	const remedy = "has a number that some readers cannot read: an integer may have %d digits, any number %d characters, " +
		"and none may be beyond 1.79e308; send it as a string"
	if !validID(field) {
		return Errorf(CodeInvalidField, "a field of the message "+remedy, MaxIntegerDigits, MaxNumberLength)
	}
	return FieldErrorf(CodeInvalidField, field, "%s "+remedy, field, MaxIntegerDigits, MaxNumberLength)
}

// HasUnreadableNumber reports whether a valid JSON document has a number that
// [ParseDraft] refuses. Records that are older than the bounds may have one.
func HasUnreadableNumber(document []byte) bool { return unreadableNumber(document) != nil }

// unreadableNumber returns the first number of a valid JSON value that is outside
// the bounds, or nil.
func unreadableNumber(raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			i = strictjson.EndOfString(raw, i)
		case c == '-' || ('0' <= c && c <= '9'):
			end := i + 1
			for end < len(raw) && isNumberByte(raw[end]) {
				end++
			}
			if number := raw[i:end]; !isReadable(number) {
				return number
			}
			i = end - 1
		}
	}
	return nil
}

func isNumberByte(c byte) bool {
	return ('0' <= c && c <= '9') || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

func isReadable(number []byte) bool {
	exponent := bytes.ContainsAny(number, "eE")
	if len(number) <= plainNumber && !exponent {
		return true
	}
	if len(number) > MaxNumberLength {
		return false
	}
	if !exponent && bytes.IndexByte(number, '.') < 0 {
		return len(bytes.TrimPrefix(number, []byte("-"))) <= MaxIntegerDigits
	}
	f, _ := strconv.ParseFloat(string(number), 64) // the only possible error is ErrRange
	return !math.IsInf(f, 0)
}
