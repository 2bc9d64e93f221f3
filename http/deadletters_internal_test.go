package http

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
)

// A dead letter shows its message byte for byte: a client that compares must find
// what it sent.
func TestADeadLetterShowsItsMessageAsItWasSent(t *testing.T) {
	letter := messaging.DeadLetter{
		ID: "refused-01a20b45-1895-76bd-b871-3ccb78a69ece", Kind: messaging.Refused, Reason: "cut off \xe2\x82", FailedAt: time.Now(),
		Message: messaging.Message{Position: messaging.Position{Sequence: 7}, Body: []byte(`{"text" : "\u0041\/",  "n": 1.50, "e":1E2 , "x": [ ] }`)},
	}
	want := letter.Message.AppendJSON(nil)
	page, err := deadLettersResponse(&messaging.DeadLetterPage{DeadLetters: []messaging.DeadLetter{letter, letter}, Total: 2})
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page.body, want); n != 2 || !jsontext.Value(page.body).IsValid() {
		t.Errorf("the message is there %d times, want twice, byte for byte: %s", n, page.body)
	}
	empty, err := deadLettersResponse(&messaging.DeadLetterPage{})
	if want := `{"status":"success","count":0,"total":0,"next":null,"dead_letters":[]}`; err != nil || string(empty.body) != want {
		t.Errorf("an empty page is %s (%v), want %s", empty.body, err, want)
	}
}
