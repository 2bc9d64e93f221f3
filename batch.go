package messaging

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// Limits of a batch.
const (
	// MaxBatch is the largest number of messages in a batch.
	MaxBatch = 10_000
	// MaxBody is the largest size of a message in bytes, alone or in a batch.
	MaxBody = 1 << 20
)

// BatchReader reads the messages of a batch one by one from their source, so at
// most one of them is in memory. An error is an [*Error] with the number of its
// message, or the error of the source.
type BatchReader struct {
	next  func() ([]byte, error)
	count int
}

// NewBatchReader returns a reader of a JSON object {"messages":[…]}.
func NewBatchReader(r io.Reader) *BatchReader {
	a := &arrayReader{source: &budget{reader: r}}
	// The decoder reads the object leniently; ParseDraft then reads each message
	// strictly.
	a.json = jsontext.NewDecoder(a.source, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return &BatchReader{next: a.next}
}

// NewLinesReader returns a reader of newline-delimited JSON with one message per
// line. It skips empty lines.
func NewLinesReader(r io.Reader) *BatchReader {
	l := &lineReader{lines: bufio.NewReaderSize(r, 4<<10)}
	return &BatchReader{next: l.next}
}

// Next returns the next message, or [io.EOF] after the last one. The message does
// not alias the reader's buffers.
func (b *BatchReader) Next() (Draft, error) {
	raw, err := b.next()
	if errors.Is(err, io.EOF) {
		if b.count == 0 {
			return Draft{}, FieldErrorf(CodeInvalidField, "messages", "messages is empty: a batch has 1 to %d messages", MaxBatch)
		}
		return Draft{}, io.EOF
	}
	if frame, ok := errors.AsType[*frameError](err); ok {
		return Draft{}, frame.err // it concerns no single message
	}
	b.count++
	if err == nil && b.count > MaxBatch {
		return Draft{}, FieldErrorf(CodeTooLarge, "messages", "a batch has at most %d messages", MaxBatch)
	}
	var d Draft
	if err == nil {
		d, err = ParseDraft(bytes.Clone(raw))
	}
	if err == nil && d.Key != "" {
		err = FieldErrorf(CodeInvalidField, "idempotency_key", "send the idempotency key of a batch in the Idempotency-Key header")
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Item == 0 {
		e.Item = b.count
	}
	return d, err
}

// frameError is an error outside the messages, in the object that holds them.
type frameError struct{ err error }

func (e *frameError) Error() string { return e.err.Error() }

// errBatchMessage returns the error for a message that is too large.
func errBatchMessage() error {
	return Errorf(CodeTooLarge, "a message is larger than %d bytes", MaxBody)
}

// budget is a reader that fails when one message is longer than the limit. This
// bounds the memory of an unfinished message.
type budget struct {
	reader io.Reader
	read   int64 // bytes read so far
	limit  int64 // the offset at which reading fails
	err    error // the first error other than io.EOF
}

var errBudget = errors.New("the message is longer than the limit")

// Read implements [io.Reader].
func (b *budget) Read(p []byte) (int, error) {
	if b.read >= b.limit {
		b.err = errBudget
		return 0, b.err
	}
	n, err := b.reader.Read(p[:min(int64(len(p)), b.limit-b.read)])
	b.read += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// arrayReader reads the elements of the array "messages".
type arrayReader struct {
	source *budget
	json   *jsontext.Decoder
	inside bool
	ended  bool
}

// next returns the bytes of the next element, valid until the next call.
func (a *arrayReader) next() ([]byte, error) {
	a.source.limit = a.json.InputOffset() + MaxBody
	if a.ended {
		return nil, io.EOF
	}
	if !a.inside {
		if err := a.enter(); err != nil {
			return nil, &frameError{err}
		}
		a.inside = true
	}
	if a.json.PeekKind() == ']' {
		a.ended = true
		err := a.leave()
		if !errors.Is(err, io.EOF) {
			err = &frameError{err}
		}
		return nil, err
	}
	raw, err := a.json.ReadValue()
	if err != nil {
		return nil, a.classify(err)
	}
	return raw, nil
}

// enter reads up to the first element.
func (a *arrayReader) enter() error {
	if a.json.PeekKind() != '{' {
		if _, err := a.json.ReadToken(); err != nil {
			return a.classify(err)
		}
		return Errorf(CodeInvalidJSON, `Invalid JSON: a batch is one object {"messages":[…]}`)
	}
	if _, err := a.json.ReadToken(); err != nil {
		return a.classify(err)
	}
	if a.json.PeekKind() == '}' {
		return FieldErrorf(CodeMissingField, "messages", "messages is missing")
	}
	name, err := a.json.ReadToken()
	if err != nil {
		return a.classify(err)
	}
	if name.String() != "messages" {
		return FieldErrorf(CodeInvalidField, "", "a batch has messages only")
	}
	if a.json.PeekKind() != '[' {
		if _, err := a.json.ReadValue(); err != nil {
			return a.classify(err)
		}
		return FieldErrorf(CodeInvalidField, "messages", "messages must be an array of messages")
	}
	if _, err := a.json.ReadToken(); err != nil {
		return a.classify(err)
	}
	return nil
}

// leave reads the rest of the document after the last element. It returns io.EOF
// if the document is complete.
func (a *arrayReader) leave() error {
	for range 2 { // ] and }
		token, err := a.json.ReadToken()
		if err != nil {
			return a.classify(err)
		}
		if token.Kind() == '"' {
			return FieldErrorf(CodeInvalidField, "", "a batch has messages only")
		}
	}
	switch _, err := a.json.ReadToken(); {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err == nil:
		return Errorf(CodeInvalidJSON, "Invalid JSON: more than one document near byte %d", a.json.InputOffset())
	default:
		return a.classify(err)
	}
}

// classify separates errors in the client's JSON from errors of the source.
func (a *arrayReader) classify(err error) error {
	switch {
	case errors.Is(a.source.err, errBudget):
		return errBatchMessage()
	case a.source.err != nil:
		return a.source.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		if a.source.read == 0 {
			return Errorf(CodeInvalidJSON, "Invalid JSON: the body is empty")
		}
		return Errorf(CodeInvalidJSON, "Invalid JSON: the body ends in the middle of the document")
	}
	return JSONError(strictjson.Classify(a.json, err))
}

// lineReader reads lines.
type lineReader struct {
	lines *bufio.Reader
	long  []byte
}

// next returns the next line that is not empty, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (l *lineReader) line() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.lines.ReadSlice('\n')
		if len(l.long)+len(part) > MaxBody {
			return nil, errBatchMessage()
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if len(l.long) == 0 {
				return part, err
			}
			return append(l.long, part...), err
		}
		l.long = append(l.long, part...)
	}
}
