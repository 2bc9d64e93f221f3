package messaging

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a batch.
const (
	// MaxBatch is how many messages a batch may have.
	MaxBatch = 10_000
	// MaxBody is how large a message may be, in bytes, alone or in a batch.
	MaxBody = 1 << 20
)

// BatchReader reads the messages of a batch one after the other from where they
// arrive, so that no more than one of them is in memory. Errors are [*Error]s
// with the number of their message, or what the source failed with.
type BatchReader struct {
	next  func() ([]byte, error)
	count int
}

// NewBatchReader reads {"messages":[…]}.
func NewBatchReader(r io.Reader) *BatchReader {
	a := &arrayReader{source: &budget{reader: r}}
	// The frame is read leniently and each message strictly afterwards.
	a.json = jsontext.NewDecoder(a.source, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return &BatchReader{next: a.next}
}

// NewLinesReader reads newline-delimited JSON, a message a line; empty lines
// are passed over.
func NewLinesReader(r io.Reader) *BatchReader {
	l := &lineReader{lines: bufio.NewReaderSize(r, 4<<10)}
	return &BatchReader{next: l.next}
}

// Next gives the next message, or [io.EOF] behind the last one. What it gives
// is valid for ever.
func (b *BatchReader) Next() (Draft, error) {
	raw, err := b.next()
	if errors.Is(err, io.EOF) {
		if b.count == 0 {
			return Draft{}, FieldErrorf(CodeInvalidField, "messages", "messages is empty: a batch has 1 to %d messages", MaxBatch)
		}
		return Draft{}, io.EOF
	}
	if frame, ok := errors.AsType[*frameError](err); ok {
		return Draft{}, frame.err // it is about no message
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
		err = FieldErrorf(CodeInvalidField, "idempotency_key", "a batch takes its idempotency key from the Idempotency-Key header")
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Item == 0 {
		e.Item = b.count
	}
	return d, err
}

// frameError is an error in what stands around the messages.
type frameError struct{ err error }

func (e *frameError) Error() string { return e.err.Error() }

// errBatchMessage says that one message is too large.
func errBatchMessage() error {
	return Errorf(CodeTooLarge, "a message is larger than %d bytes", MaxBody)
}

// budget ends a source that goes on for too long without a message's end, so
// that what waits in memory stays bounded.
type budget struct {
	reader io.Reader
	read   int64 // all so far
	limit  int64 // how far reading may go
	err    error // what it failed with, other than its end
}

var errBudget = errors.New("no end in sight")

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

// next gives the bytes of the next element, valid until the next call.
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
		return FieldErrorf(CodeInvalidField, "", "a batch has messages, and nothing else")
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

// leave reads what stands behind the last element; io.EOF says that this was
// all.
func (a *arrayReader) leave() error {
	for range 2 { // ] and }
		token, err := a.json.ReadToken()
		if err != nil {
			return a.classify(err)
		}
		if token.Kind() == '"' {
			return FieldErrorf(CodeInvalidField, "", "a batch has messages, and nothing else")
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

// classify tells what the client sent from what the source failed with.
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
	d := decoder{json: a.json}
	return d.classify(err)
}

// lineReader reads lines.
type lineReader struct {
	lines *bufio.Reader
	long  []byte
}

// next gives the next line that is not empty, valid until the next call.
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
