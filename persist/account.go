package persist

import (
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
)

// account reads the body of a 2xx response, which says what happened to each message.
// It decodes the body as a stream, so the size of the body costs no memory: it holds at
// most one error at a time, and it keeps no error past the number of messages in the
// batch.
func (d *Django) account(b *body, status int, batch []messaging.Message) Response {
	reader := accountReader{
		// Skipped values may repeat a name: remembering all names would cost memory.
		// readObject checks the names that matter.
		decoder: jsontext.NewDecoder(b, jsontext.AllowDuplicateNames(true)),
		django:  d, matcher: newMatcher(batch), results: make([]Result, len(batch)), named: make([]bool, len(batch)),
	}
	err := reader.read()
	if err != nil {
		_, _ = io.Copy(io.Discard, b) // read the rest first: a broken or oversized body takes precedence
	}
	switch {
	case b.err != nil:
		return classifyError(b.err)
	case b.over:
		return tooLarge(status, len(batch))
	case (err != nil || !reader.hasPersisted) && d.config.Trust2xx:
		return allStored(len(batch), status)
	case err != nil || !reader.hasPersisted:
		return Response{Class: Misconfigured, Status: status, Reason: "it reported success but not what it stored (is DJANGO_PERSIST_PATH the endpoint, not a login or maintenance page?)"}
	case !reader.addsUp():
		return Response{Class: Mismatched, Status: status, Reason: "its numbers do not account for the batch"}
	}
	return Response{Class: Accounted, Status: status, Results: reader.allResults(), Old: reader.persisted == 0}
}

func allStored(n, status int) Response {
	results := make([]Result, n)
	for i := range results {
		results[i].Stored = true
	}
	return Response{Class: Accounted, Status: status, Results: results}
}

var (
	errNotAccount    = errors.New("the body does not account for a batch")
	errDuplicateName = errors.New("a name occurs twice")
)

// accountMembers is the maximum number of members of an account, or of an error in it.
const accountMembers = 64

// accountReader reads an account:
//
//	{"persisted":n,"duplicates":n,"errors":[{"message":{…},"error":"…","permanent":b}]}
type accountReader struct {
	decoder *jsontext.Decoder
	django  *Django
	matcher matcher

	persisted, duplicates, errors int
	hasPersisted                  bool
	// results holds what the errors say about each message. named marks the messages
	// that have an error.
	results []Result
	named   []bool
	// unmatched is set when an error matches no message, or one that has an error
	// already.
	unmatched bool
}

func (a *accountReader) read() error {
	err := a.readObject(func(name string) error {
		switch name {
		case "persisted":
			n, null, err := a.readNumber()
			a.persisted, a.hasPersisted = n, !null
			return err
		case "duplicates":
			n, _, err := a.readNumber()
			a.duplicates = n
			return err
		case "errors":
			return a.readErrors()
		}
		return a.decoder.SkipValue()
	}, "persisted", "duplicates", "errors")
	if err != nil {
		return err
	}
	if _, err := a.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return errNotAccount // there is more after the object
	}
	return nil
}

// readObject reads an object and calls member for each value. A name in known must not
// occur twice.
func (a *accountReader) readObject(member func(name string) error, known ...string) error {
	if a.decoder.PeekKind() != '{' {
		return a.skipInvalid()
	}
	if _, err := a.decoder.ReadToken(); err != nil {
		return err
	}
	seen := make([]bool, len(known))
	for n := 0; a.decoder.PeekKind() != '}'; n++ {
		token, err := a.decoder.ReadToken()
		if err != nil {
			return err
		}
		if n == accountMembers {
			return errNotAccount
		}
		name := token.String()
		for i := range known {
			if known[i] == name {
				if seen[i] {
					return errDuplicateName
				}
				seen[i] = true
			}
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := a.decoder.ReadToken()
	return err
}

// skipInvalid skips a value of the wrong type and returns an error.
func (a *accountReader) skipInvalid() error {
	if err := a.decoder.SkipValue(); err != nil {
		return err
	}
	return errNotAccount
}

// readNumber reads an integer. null reports that the value is null.
func (a *accountReader) readNumber() (n int, null bool, err error) {
	kind := a.decoder.PeekKind()
	if kind != '0' && kind != 'n' {
		return 0, false, a.skipInvalid()
	}
	value, err := a.decoder.ReadValue()
	if err != nil || kind == 'n' {
		return 0, kind == 'n', err
	}
	return n, false, json.Unmarshal(value, &n)
}

// readErrors reads the list of errors. It only counts the errors past the number of
// messages in the batch.
func (a *accountReader) readErrors() error {
	switch a.decoder.PeekKind() {
	case 'n':
		return a.decoder.SkipValue()
	case '[':
	default:
		return a.skipInvalid()
	}
	if _, err := a.decoder.ReadToken(); err != nil {
		return err
	}
	for a.decoder.PeekKind() != ']' {
		var err error
		if a.errors++; a.errors > len(a.results) {
			err = a.decoder.SkipValue()
		} else {
			err = a.readError()
		}
		if err != nil {
			return err
		}
	}
	_, err := a.decoder.ReadToken()
	return err
}

// readError reads one error and matches it to its message.
func (a *accountReader) readError() error {
	if a.decoder.PeekKind() == 'n' {
		a.unmatched = true
		return a.decoder.SkipValue()
	}
	at, found, permanent, text := 0, false, false, ""
	err := a.readObject(func(name string) error {
		switch name {
		case "message":
			value, err := a.decoder.ReadValue()
			if err == nil {
				at, found = a.matcher.find(value)
			}
			return err
		case "error":
			value, err := a.decoder.ReadValue()
			if err == nil {
				text = errorText(value)
			}
			return err
		case "permanent":
			value, err := a.decoder.ReadValue()
			if err != nil {
				return err
			}
			return json.Unmarshal(value, &permanent)
		}
		return a.decoder.SkipValue()
	}, "message", "error", "permanent")
	if err != nil {
		return err
	}
	if !found || a.named[at] {
		a.unmatched = true
		return nil
	}
	a.named[at] = true
	a.results[at] = a.django.result(text, permanent)
	return nil
}

// errorText returns the error as text, whatever its JSON type.
func errorText(value jsontext.Value) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	return string(value)
}

// addsUp reports whether the numbers account for the whole batch.
func (a *accountReader) addsUp() bool {
	sent := len(a.results)
	return !a.unmatched && a.errors <= sent && a.persisted >= 0 && a.duplicates >= 0 &&
		a.persisted <= sent && a.duplicates <= sent && a.persisted+a.duplicates+a.errors == sent
}

// allResults returns the result of every message. A message without an error is stored.
func (a *accountReader) allResults() []Result {
	for i := range a.results {
		if !a.named[i] {
			a.results[i].Stored = true
		}
	}
	return a.results
}

func (d *Django) result(text string, permanent bool) Result {
	stored := !permanent && d.config.Duplicate.MatchString(text)
	suspect := !stored && d.config.Permanent.MatchString(text)
	return Result{Stored: stored, Error: shorten(text), Permanent: permanent, Suspect: suspect}
}

// matcher finds the message of a batch that an error names, by id or, without an id, by
// equality.
type matcher struct {
	batch        []messaging.Message
	maxSize      int // the longest form in which a sent message can come back
	byID         map[string]int
	byNormalized map[string]int
}

func newMatcher(batch []messaging.Message) matcher {
	m := matcher{batch: batch}
	for i := range batch {
		m.maxSize = max(m.maxSize, escaped*(len(batch[i].Body)+2*messaging.JSONOverhead))
	}
	return m
}

func (m *matcher) find(message jsontext.Value) (at int, found bool) {
	if len(message) > m.maxSize {
		return 0, false
	}
	var named struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(message, &named, jsontext.AllowDuplicateNames(true)) == nil && named.ID != "" {
		at, found = m.ids()[named.ID]
		return at, found
	}
	text, ok := normalize(message)
	if !ok {
		return 0, false
	}
	at, found = m.normalized()[text]
	return at, found
}

func (m *matcher) ids() map[string]int {
	if m.byID == nil {
		m.byID = make(map[string]int, len(m.batch))
		for i := range m.batch {
			m.byID[m.batch[i].ID.String()] = i
		}
	}
	return m.byID
}

// normalized indexes the sent messages by their normalized form, without the id.
func (m *matcher) normalized() map[string]int {
	if m.byNormalized != nil {
		return m.byNormalized
	}
	m.byNormalized = make(map[string]int, len(m.batch))
	for i := range m.batch {
		if text, ok := normalize(m.batch[i].AppendJSON(nil)); ok {
			m.byNormalized[text] = i
		}
	}
	return m.byNormalized
}

// normalize returns a canonical form of a message, which is the same for equal
// messages: members in order, no white space, one spelling of each string, numbers
// unchanged, and without the members that the service adds.
func normalize(message jsontext.Value) (string, bool) {
	var members map[string]jsontext.Value
	if json.Unmarshal(message, &members) != nil {
		return "", false
	}
	for _, added := range []string{"id", "sequence", "created_at"} {
		delete(members, added)
	}
	text, err := json.Marshal(members, json.Deterministic(true))
	if err != nil {
		return "", false
	}
	value := jsontext.Value(text)
	if value.Compact(jsontext.ReorderRawObjects(true), jsontext.PreserveRawStrings(false)) != nil {
		return "", false
	}
	return string(value), true
}
