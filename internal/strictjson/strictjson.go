// Package strictjson reads one JSON document strictly. It refuses duplicate names,
// invalid UTF-8, bytes after the document, nesting deeper than [MaxDepth], and \u0000,
// which PostgreSQL cannot store. It reads the bytes without copying them.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is the deepest nesting of a body; the outermost object is depth 1.
const MaxDepth = 32

// Kind is the kind of an error.
type Kind int

// The kinds of errors.
const (
	// Malformed means that the document is not JSON, or not the expected JSON.
	Malformed Kind = iota
	// TooDeep means that the document is nested deeper than [MaxDepth].
	TooDeep
	// DuplicateName means that a name occurs twice in one object.
	DuplicateName
	// BadText means that a string has characters that are not allowed.
	BadText
)

// Error is an error in a document. Its text is a sentence for the author of the
// document and contains nothing of the document.
type Error struct {
	Kind Kind
	Text string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{kind, "Invalid JSON: " + fmt.Sprintf(format, args...)}
}

// Decoder reads one document. Its results alias the document. It is not safe for
// concurrent use.
type Decoder struct {
	json   *jsontext.Decoder
	buffer *bytes.Buffer
	body   []byte
}

var decoders = sync.Pool{New: func() any {
	return &Decoder{json: new(jsontext.Decoder), buffer: new(bytes.Buffer)}
}}

// New returns a decoder of a document. The caller must call [Decoder.Free] after use.
func New(body []byte) *Decoder {
	d, _ := decoders.Get().(*Decoder)
	d.body = body
	*d.buffer = *bytes.NewBuffer(body)
	d.json.Reset(d.buffer)
	return d
}

// Free returns the decoder to a pool. The decoder must not be used afterwards. Its
// results stay valid as long as the document is not changed.
func (d *Decoder) Free() {
	d.body = nil
	*d.buffer = bytes.Buffer{}
	decoders.Put(d)
}

// Body returns the document.
func (d *Decoder) Body() []byte { return d.body }

// Offset returns the offset after the last token or value read.
func (d *Decoder) Offset() int64 { return d.json.InputOffset() }

// Peek returns the kind of the next value or delimiter.
func (d *Decoder) Peek() jsontext.Kind { return d.json.PeekKind() }

// Token reads the next value or delimiter.
func (d *Decoder) Token() error {
	if _, err := d.json.ReadToken(); err != nil {
		return d.classify(err)
	}
	return nil
}

// Skip reads the next value and checks only that it is valid JSON.
func (d *Decoder) Skip() error {
	if err := d.json.SkipValue(); err != nil {
		return d.classify(err)
	}
	return nil
}

// Member is the name of a member of an object, and its range in the document.
type Member struct {
	Name []byte // without quotes and escapes
	// From is the end of the previous token, so [From, To) includes the leading
	// comma. The caller sets To after it reads the value.
	From, To int64
}

// Object reads an object. It calls each for every member, after it has read the name;
// each must read the value.
func (d *Decoder) Object(each func(m Member) error) error {
	if err := d.Token(); err != nil {
		return err
	}
	for d.json.PeekKind() != '}' {
		m := Member{From: d.json.InputOffset()}
		raw, err := d.json.ReadValue()
		if err != nil {
			return d.classify(err)
		}
		if m.Name, err = Unquote(raw); err != nil {
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

// Value reads the next value and checks its depth.
func (d *Decoder) Value() (jsontext.Value, error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return nil, d.classify(err)
	}
	if raw[0] == '{' || raw[0] == '[' {
		if d.json.StackDepth()+nesting(raw) > MaxDepth {
			return nil, tooDeep()
		}
	}
	return raw, nil
}

// Finish checks the whole document: it must have ended, and no string may contain the
// escape \u0000.
func (d *Decoder) Finish() error {
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			return errorf(Malformed, "more than one document near byte %d", d.json.InputOffset())
		}
		return d.classify(err)
	}
	if hasEscapedNUL(d.body) {
		return errorf(BadText, `a string contains \u0000, which the backend cannot store`)
	}
	return nil
}

func tooDeep() error { return errorf(TooDeep, "nested deeper than %d levels", MaxDepth) }

// classify converts an error of the JSON library to an [Error].
func (d *Decoder) classify(err error) error {
	if (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && len(bytes.TrimSpace(d.body)) == 0 {
		return errorf(Malformed, "the body is empty")
	}
	return Classify(d.json, err)
}

// Classify converts an error of a decoder to an [Error]. It matches the texts of some
// errors, because the library has no sentinel errors for them.
func Classify(d *jsontext.Decoder, err error) error {
	at := d.InputOffset()
	text := err.Error()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errorf(DuplicateName, "a key occurs twice in one object near byte %d", at)
	case strings.Contains(text, "exceeded max depth"):
		return tooDeep()
	case strings.Contains(text, "invalid UTF-8"):
		return errorf(BadText, "a string is not UTF-8 near byte %d", at)
	case strings.Contains(text, "surrogate pair"):
		return errorf(BadText, "a string has half of a surrogate pair near byte %d", at)
	case strings.Contains(text, "non-control character"):
		return errorf(BadText, "a string has a raw control character near byte %d", at)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errorf(Malformed, "the body ends in the middle of the document")
	}
	return errorf(Malformed, "not JSON near byte %d", at)
}

// Unquote returns the characters of a JSON string. They alias raw if it has no escapes.
func Unquote(raw jsontext.Value) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

// nesting returns the depth of a valid JSON value: 0 for a scalar.
func nesting(raw []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = EndOfString(raw, i)
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}

// EndOfString returns the index of the quote that closes the string opened at i, in
// valid JSON.
func EndOfString(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i
}

var escapedNUL = []byte(`\u0000`)

// hasEscapedNUL reports whether a valid document has the escape \u0000 in a string. An
// odd number of backslashes before it would make the text a literal backslash and "u0000".
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
