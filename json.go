package messaging

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep a body may be nested; the outermost object is depth 1.
const MaxDepth = 32

// decoder reads one JSON document strictly: no duplicate keys, no invalid
// UTF-8, nothing behind the document, no deeper than MaxDepth, no \u0000. It
// walks the bytes once; what it gives out aliases the body.
type decoder struct {
	json   *jsontext.Decoder
	buffer *bytes.Buffer
	body   []byte
}

var decoders = sync.Pool{New: func() any {
	return &decoder{json: new(jsontext.Decoder), buffer: new(bytes.Buffer)}
}}

func newDecoder(body []byte) *decoder {
	d, _ := decoders.Get().(*decoder)
	d.body = body
	*d.buffer = *bytes.NewBuffer(body)
	d.json.Reset(d.buffer)
	return d
}

// free gives the decoder back. Nothing may hold on to it afterwards; what it
// gave out lives as long as the body.
func (d *decoder) free() {
	d.body = nil
	*d.buffer = bytes.Buffer{}
	decoders.Put(d)
}

// member is one name of an object and where it and its value stand.
type member struct {
	name []byte // without quotes and escapes
	// from is the end of what stands before the member, so that cutting
	// [from, to) takes its leading comma too.
	from, to int64
}

// object reads an object and calls each once for every member, behind its
// name and before its value, which each must read.
func (d *decoder) object(field string, each func(m member) error) error {
	if d.json.PeekKind() != '{' {
		return d.notAnObject(field)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return d.classify(err)
	}
	for d.json.PeekKind() != '}' {
		m := member{from: d.json.InputOffset()}
		raw, err := d.json.ReadValue()
		if err != nil {
			return d.classify(err)
		}
		if m.name, err = unquote(raw); err != nil {
			return d.classify(err)
		}
		if err := each(m); err != nil {
			return err
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return d.classify(err)
	}
	return nil
}

func (d *decoder) notAnObject(field string) error {
	if _, err := d.json.ReadValue(); err != nil {
		return d.classify(err)
	}
	if field != "" {
		return FieldErrorf(CodeInvalidField, field, "%s must be a JSON object", field)
	}
	return Errorf(CodeInvalidJSON, "Invalid JSON: the body must be one JSON object")
}

// value reads the next value whole.
func (d *decoder) value() (jsontext.Value, error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return nil, d.classify(err)
	}
	if raw[0] == '{' || raw[0] == '[' {
		if d.json.StackDepth()+nesting(raw) > MaxDepth {
			return nil, d.tooDeep()
		}
	}
	return raw, nil
}

// finish checks what concerns the whole document.
func (d *decoder) finish() error {
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			return d.invalid("more than one document")
		}
		return d.classify(err)
	}
	if hasEscapedNUL(d.body) {
		return Errorf(CodeInvalidText, `Invalid JSON: a string contains \u0000, which the backend cannot store`)
	}
	return nil
}

func (d *decoder) tooDeep() error {
	return Errorf(CodeTooDeep, "Invalid JSON: nested deeper than %d levels", MaxDepth)
}

func (d *decoder) invalid(what string) error {
	return Errorf(CodeInvalidJSON, "Invalid JSON: %s near byte %d", what, d.json.InputOffset())
}

// classify turns what the JSON library found into an error of the contract.
// The library names the kinds of text errors only in their texts.
func (d *decoder) classify(err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return Errorf(CodeDuplicateKey, "Invalid JSON: a key occurs twice in one object near byte %d", d.json.InputOffset())
	case strings.Contains(text, "exceeded max depth"):
		return d.tooDeep()
	case strings.Contains(text, "invalid UTF-8"):
		return d.invalidText("a string is not UTF-8")
	case strings.Contains(text, "surrogate pair"):
		return d.invalidText("a string has half of a surrogate pair")
	case strings.Contains(text, "non-control character"):
		return d.invalidText("a string has a raw control character")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if len(bytes.TrimSpace(d.body)) == 0 {
			return Errorf(CodeInvalidJSON, "Invalid JSON: the body is empty")
		}
		return Errorf(CodeInvalidJSON, "Invalid JSON: the body ends in the middle of the document")
	}
	return d.invalid("not JSON")
}

func (d *decoder) invalidText(what string) error {
	return Errorf(CodeInvalidText, "Invalid JSON: %s near byte %d", what, d.json.InputOffset())
}

// unquote gives the characters of a JSON string, aliasing it where it has no
// escapes.
func unquote(raw jsontext.Value) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

// nesting says how deep a valid JSON value is nested: 0 for a scalar.
func nesting(raw []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i)
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}

// endOfString gives the index of the quote that closes the string opened at i.
func endOfString(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i
}

var escapedNUL = []byte(`\u0000`)

// hasEscapedNUL says whether a valid document has the escape \u0000 in a
// string: one that is not itself behind a backslash.
func hasEscapedNUL(body []byte) bool {
	for from := 0; ; {
		at := bytes.Index(body[from:], escapedNUL)
		if at < 0 {
			return false
		}
		at += from
		backslashes := 0
		for at-1-backslashes >= 0 && body[at-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return true
		}
		from = at + 1
	}
}
