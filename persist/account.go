package persist

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
)

// account is what a good answer says.
type account struct {
	Persisted  *int           `json:"persisted"`
	Duplicates int            `json:"duplicates"`
	Errors     []accountError `json:"errors"`
}

type accountError struct {
	Message   jsontext.Value `json:"message"`
	Error     jsontext.Value `json:"error"`
	Permanent bool           `json:"permanent"`
}

// text gives the error as a sentence, whatever JSON it is.
func (e *accountError) text() string {
	var s string
	if json.Unmarshal(e.Error, &s) == nil {
		return s
	}
	return string(e.Error)
}

// account reads the body of a 2xx answer: what became of each message.
func (d *Django) account(text []byte, batch []messaging.Message) Answer {
	var said account
	if err := json.Unmarshal(text, &said); err != nil || said.Persisted == nil {
		if d.config.Trust2xx {
			return allStored(len(batch))
		}
		return Answer{Verdict: Misconfigured, Reason: "it answered with success and did not say what it stored (is DJANGO_PERSIST_PATH the endpoint, and not a login or maintenance page?)"}
	}
	results, ok := d.results(&said, batch)
	if !ok {
		return Answer{Verdict: Mismatched, Reason: "its numbers do not account for the batch"}
	}
	return Answer{Verdict: Accounted, Results: results, Old: *said.Persisted == 0}
}

func allStored(n int) Answer {
	results := make([]Result, n)
	for i := range results {
		results[i].Stored = true
	}
	return Answer{Verdict: Accounted, Results: results}
}

// results matches every error to its message; ok is false where that cannot be
// done or the numbers do not add up.
func (d *Django) results(said *account, batch []messaging.Message) (results []Result, ok bool) {
	if *said.Persisted < 0 || said.Duplicates < 0 || *said.Persisted+said.Duplicates+len(said.Errors) != len(batch) {
		return nil, false
	}
	results = allStored(len(batch)).Results
	matcher := matcher{batch: batch}
	for i := range said.Errors {
		e := &said.Errors[i]
		at, found := matcher.find(e.Message)
		if !found || results[at] != (Result{Stored: true}) {
			return nil, false
		}
		results[at] = d.result(e)
	}
	return results, true
}

func (d *Django) result(e *accountError) Result {
	text := e.text()
	if !e.Permanent && d.config.Duplicate.MatchString(text) {
		// Not the zero of a stored one, so that a second error for it is noticed.
		return Result{Stored: true, Error: text}
	}
	return Result{Error: text, Permanent: e.Permanent, Hopeless: d.config.Permanent.MatchString(text)}
}

// matcher finds the message of a batch that an answer speaks of: by its id, or
// else by being equal.
type matcher struct {
	batch  []messaging.Message
	byID   map[string]int
	byText map[string]int
}

func (m *matcher) find(message jsontext.Value) (at int, found bool) {
	var named struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(message, &named) == nil && named.ID != "" {
		at, found = m.ids()[named.ID]
		return at, found
	}
	text, ok := normal(message)
	if !ok {
		return 0, false
	}
	at, found = m.texts()[text]
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

// texts has the messages as they were sent, less the id that the answer lacks
// too.
func (m *matcher) texts() map[string]int {
	if m.byText != nil {
		return m.byText
	}
	m.byText = make(map[string]int, len(m.batch))
	for i := range m.batch {
		if text, ok := normal(m.batch[i].AppendJSON(nil)); ok {
			m.byText[text] = i
		}
	}
	return m.byText
}

// normal gives a message in a form that is the same for equal ones: members in
// order, no white space, one spelling of every string, numbers as they are; and
// without the members that the service adds.
func normal(message jsontext.Value) (string, bool) {
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
