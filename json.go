package messaging

import (
	"errors"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// MaxDepth is the deepest nesting of a body; the outermost object is depth 1.
const MaxDepth = strictjson.MaxDepth

// JSONError converts an error of package strictjson to an [*Error] with its code. It
// returns any other error unchanged.
func JSONError(err error) error {
	e, ok := errors.AsType[*strictjson.Error](err)
	if !ok {
		return err
	}
	code := CodeInvalidJSON
	switch e.Kind {
	case strictjson.TooDeep:
		code = CodeTooDeep
	case strictjson.DuplicateName:
		code = CodeDuplicateKey
	case strictjson.BadText:
		code = CodeInvalidText
	case strictjson.Malformed:
	}
	return Errorf(code, "%s", e.Text)
}

// readObject reads a JSON object: the value of a field, or the whole body if field is
// empty.
func readObject(d *strictjson.Decoder, field string, each func(m strictjson.Member) error) error {
	if d.Peek() == '{' {
		return d.Object(each)
	}
	if err := d.Skip(); err != nil {
		return err
	}
	if field != "" {
		return FieldErrorf(CodeInvalidField, field, "%s must be a JSON object", field)
	}
	return Errorf(CodeInvalidJSON, "Invalid JSON: the body must be one JSON object")
}
