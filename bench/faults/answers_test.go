package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestResponseWithMillionsOfErrorsTakesLittleMemory: Django responds to a batch with
// 2.25 million errors. Earlier revisions used 892 MB for that.
func TestResponseWithMillionsOfErrorsTakesLittleMemory(t *testing.T) {
	fault(t, "10")
	const most = 192 << 20
	errors := strings.Repeat("{},", 2_249_999) + "{}"
	var answered atomic.Int64
	backend := startDjango(t, down)
	s := startService(t, backend.env())
	text := strings.Repeat("x", 60_000)
	const n = 17 // enough to fill a request: the larger the request, the more of a response is read
	for range n {
		s.send("7", text, nil)
	}
	before := s.memory()
	backend.setScript(func(w http.ResponseWriter, _ []json.RawMessage) bool {
		fmt.Fprintf(w, `{"persisted":0,"errors":[%s]}`, errors)
		answered.Add(1)
		return false
	})
	eventually(t, 30*time.Second, "Django has responded to some batches", func() bool { return answered.Load() >= 5 })
	if grown := s.memory() - before; grown > most {
		t.Errorf("a response with millions of errors took %d MB of memory, want at most %d", grown>>20, most>>20)
	}
	backend.setScript(stores)
	eventually(t, 30*time.Second, "Django gets the messages once its responses are valid", func() bool { return s.lag() == 0 })
	equal(t, "stored messages", len(backend.stored()), n)
	equal(t, "dead letters", s.letters(nil).Total, 0)
}

// TestManyRefusedMessagesAreFewLogLines: earlier revisions logged a line per dead
// letter.
func TestManyRefusedMessagesAreFewLogLines(t *testing.T) {
	fault(t, "10")
	const n, most = 20_000, 1000
	backend := startDjango(t, refuses("never"))
	s := startService(t, backend.env(), "PERSIST_CONCURRENCY=8", "PERSIST_BATCH_SIZE=5000", "PERSIST_MAX_BATCH_BYTES=8MiB")
	before := len(s.log.all())
	s.batch("7", n)
	s.awaitLetters(n, 60*time.Second)
	after := s.log.all()[before:]
	if len(after) > most {
		t.Errorf("%d dead letters are %d lines of the log, want at most %d", n, len(after), most)
	}
	if !lineHas(after, "never") && !lineHas(after, "dead letter") {
		t.Error("no line of the log mentions the dead letters")
	}
}
