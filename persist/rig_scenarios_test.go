package persist_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/persist"
)

// says answers with a status and a body, and stores nothing.
func says(status int, body string, header ...string) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		if len(batch) == 1 {
			d.hold(batch[0].Name) // it may be refused alone
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// storing stores all, and then does something else.
func storing(then fault) fault {
	return func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
		d.store(batch)
		then(d, w, r, batch)
	}
}

// errorsFor stores what is not in trouble, and gives an error for the rest.
func errorsFor(trouble func(name string) bool, text string, more string) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		var good []sent
		var list []string
		for _, m := range batch {
			if trouble(m.Name) {
				d.hold(m.Name)
				list = append([]string{fmt.Sprintf(`{"message":{"id":%q},"error":%q%s}`, m.ID, text, more)}, list...) // last first
			} else {
				good = append(good, m)
			}
		}
		d.store(good)
		_, _ = fmt.Fprintf(w, `{"persisted":%d,"errors":[%s]}`, len(good), strings.Join(list, ","))
	}
}

// hold notes that a message was in errors, or refused alone: it may come late.
func (d *django) hold(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held[name] = true
}

// refuses answers a whole batch with a status while there is trouble in it.
func refuses(trouble func(batch []sent) bool, status int) fault {
	return func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
		if trouble(batch) {
			if len(batch) == 1 {
				d.hold(batch[0].Name)
			}
			http.Error(w, "no", status)
			return
		}
		d.store(batch)
		_, _ = fmt.Fprintf(w, `{"persisted":%d}`, len(batch))
	}
}

func everything(string) bool { return true }

// isPoison is of the one message that some scenarios refuse.
func isPoison(name string) bool { return name == "a/5" }

func hasPoison(batch []sent) bool {
	for _, m := range batch {
		if isPoison(m.Name) {
			return true
		}
	}
	return false
}

const forEver = 1 << 30

// scenario is one way in which the backend or the network goes wrong.
type scenario struct {
	name string
	// fault answers so many requests; forEver lasts for the scenario.
	fault    fault
	requests int
	// net does something to the network or the drain, in the midst of it.
	net func(w *world)
	// dead are the messages that become dead letters.
	dead []string
	// cold leaves out the message that is stored before: there is no evidence.
	cold bool
}

func answers() []scenario {
	gz := func(n int64) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.CopyN(z, zeros{}, n)
		_ = z.Close()
		return b.String()
	}
	var list []scenario
	for _, status := range []int{301, 302, 303, 307, 308} {
		list = append(list, scenario{name: fmt.Sprintf("a redirect %d", status), fault: says(status, "", "Location", "/trap/"), requests: 3})
	}
	for _, status := range []int{401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 507} {
		list = append(list, scenario{name: fmt.Sprintf("status %d", status), fault: says(status, "<html>no</html>"), requests: 3})
	}
	return append(list, []scenario{
		{name: "200 with a login page", fault: says(200, "<html>log in</html>"), requests: 3},
		{name: "200 with nothing", fault: says(200, ""), requests: 3},
		{name: "204", fault: says(204, ""), requests: 3},
		{name: "200 with an empty object", fault: says(200, "{}"), requests: 3},
		{name: "200 with maintenance", fault: says(200, `{"detail":"maintenance"}`), requests: 3},
		{name: "200 with half of JSON", fault: says(200, `{"persisted":10,"err`), requests: 3},
		{name: "200 with numbers that are missing", fault: func(d *django, w http.ResponseWriter, r *http.Request, batch []sent) {
			says(200, fmt.Sprintf(`{"persisted":%d,"errors":[]}`, len(batch)-1))(d, w, r, batch)
		}, requests: 3},
		{name: "200 with too many", fault: says(200, `{"persisted":1000,"errors":[]}`), requests: 3},
		{name: "200 with negative numbers", fault: says(200, `{"persisted":11,"duplicates":-1}`), requests: 3},
		{name: "200 with errors for ids that nobody sent", fault: says(200, `{"persisted":9,"errors":[{"message":{"id":"x"},"error":"no"}]}`), requests: 3},
		{name: "200 with errors for all, as with its database down", fault: errorsFor(everything, "could not connect to server", ""), requests: 4},
		{name: "200 with a missed migration for all", fault: errorsFor(everything, `relation "chat_message" does not exist`, ""), requests: 6},
		{name: "the same, with nothing stored before", fault: errorsFor(everything, `relation "chat_message" does not exist`, ""), requests: 6, cold: true},
		{name: "errors that go away", fault: errorsFor(isPoison, "deadlock detected", ""), requests: 2},
		{name: "one error for good by its text", fault: errorsFor(isPoison, "Conversation matching query does not exist.", ""), requests: forEver, dead: []string{"a/5"}},
		{name: "one error again and again", fault: errorsFor(isPoison, "value too long", ""), requests: forEver, dead: []string{"a/5"}},
		{name: "one permanent error", fault: errorsFor(isPoison, "no", `,"permanent":true`), requests: forEver, dead: []string{"a/5"}},
		{
			name: "all errors permanent, with nothing stored before", fault: errorsFor(func(n string) bool { return strings.HasPrefix(n, "c/") }, "gone", `,"permanent":true`), requests: forEver, cold: true,
			dead: []string{"c/0", "c/1", "c/2", "c/3", "c/4", "c/5", "c/6", "c/7", "c/8", "c/9"},
		},
		{name: "an error that means stored", fault: storing(errorsFor(everything, "get() returned more than one Message -- it returned 2!", "")), requests: 3},
		{name: "everything is a duplicate", fault: func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
			d.store(batch)
			_, _ = fmt.Fprintf(w, `{"persisted":0,"duplicates":%d,"errors":[]}`, len(batch))
		}, requests: 3},
		{name: "400 for everything, as with a wrong host list", fault: says(400, "Bad Request"), requests: 8},
		{name: "400 for everything, with nothing stored before", fault: says(400, "Bad Request"), requests: 8, cold: true},
		{name: "400 for one message", fault: refuses(hasPoison, 400), requests: forEver, dead: []string{"a/5"}},
		{name: "422 for one message", fault: refuses(hasPoison, 422), requests: forEver, dead: []string{"a/5"}},
		{name: "413 for more than three", fault: refuses(func(b []sent) bool { return len(b) > 3 }, 413), requests: forEver},
		{name: "429 with seconds", fault: says(429, "", "Retry-After", "1"), requests: 1},
		{name: "429 with a date", fault: func(d *django, w http.ResponseWriter, r *http.Request, b []sent) {
			says(429, "", "Retry-After", time.Now().Add(time.Second).UTC().Format(http.TimeFormat))(d, w, r, b)
		}, requests: 1},
		{name: "503 with nonsense", fault: says(503, "", "Retry-After", "soon"), requests: 3},
		{name: "503 with a time that is over", fault: says(503, "", "Retry-After", "-5"), requests: 3},
		{name: "429 for a month, and a restart", fault: says(429, "", "Retry-After", "2592000"), requests: 1, net: func(w *world) {
			w.eventually("the drain waits", w.drain.Waiting)
			w.restart()
		}},
		{name: "an answer of 100 MB", fault: func(_ *django, w http.ResponseWriter, _ *http.Request, _ []sent) {
			_, _ = io.CopyN(w, zeros{}, 100<<20)
		}, requests: 2},
		{name: "a compressed bomb", fault: says(200, gz(50<<20), "Content-Encoding", "gzip"), requests: 2},
		{name: "stored, then 500", fault: storing(says(500, "")), requests: 3},
		{name: "stored, then silence", fault: storing(func(_ *django, _ http.ResponseWriter, r *http.Request, _ []sent) { <-r.Context().Done() }), requests: 2},
		{name: "stored, then reset", fault: storing(func(_ *django, w http.ResponseWriter, _ *http.Request, _ []sent) { cut(w) }), requests: 3},
		{name: "reset before", fault: func(_ *django, w http.ResponseWriter, _ *http.Request, _ []sent) { cut(w) }, requests: 3},
		{name: "half stored, then 500", fault: func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
			d.store(batch[:len(batch)/2])
			http.Error(w, "", http.StatusInternalServerError)
		}, requests: 3},
		{name: "the connection closed after each answer", fault: func(d *django, w http.ResponseWriter, _ *http.Request, batch []sent) {
			d.store(batch)
			w.Header().Set("Connection", "close")
			_, _ = fmt.Fprintf(w, `{"persisted":%d}`, len(batch))
		}, requests: forEver},
	}...)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// network has what goes wrong between the two.
func network() []scenario {
	for400ms := func(kind, stream string, attributes map[string]any) func(w *world) {
		return func(w *world) {
			remove := w.toxic(kind, stream, attributes)
			time.Sleep(400 * time.Millisecond)
			remove()
		}
	}
	instead := func(wrong func(w *world) persist.Sink) func(w *world) {
		return func(w *world) {
			right := w.sink.now
			w.sink.set(wrong(w))
			w.eventually("the drain waits", w.drain.Waiting)
			w.sink.set(right)
		}
	}
	return []scenario{
		{name: "a black hole", net: for400ms("timeout", "upstream", map[string]any{"timeout": 0})},
		{name: "answers in a black hole", net: for400ms("timeout", "downstream", map[string]any{"timeout": 0})},
		{name: "resets", net: for400ms("reset_peer", "downstream", map[string]any{"timeout": 0})},
		{name: "half an answer", net: for400ms("limit_data", "downstream", map[string]any{"bytes": 60})},
		{name: "half a request", net: for400ms("limit_data", "upstream", map[string]any{"bytes": 300})},
		{name: "answers at a byte a second", net: for400ms("slicer", "downstream", map[string]any{"average_size": 1, "size_variation": 0, "delay": 1_000_000})},
		{name: "requests at a kilobyte a second", net: for400ms("bandwidth", "upstream", map[string]any{"rate": 1})},
		{name: "slow and uneven", net: for400ms("latency", "downstream", map[string]any{"latency": 60, "jitter": 50})},
		{name: "slow to close", net: for400ms("slow_close", "downstream", map[string]any{"delay": 200})},
		{name: "connections refused", net: func(w *world) {
			w.proxy.Stop()
			w.eventually("the drain waits", w.drain.Waiting)
			if err := w.proxy.Start(); err != nil {
				w.Error(err)
			}
		}},
		{name: "up and down", net: func(w *world) {
			for range 5 {
				w.proxy.Stop()
				time.Sleep(20 * time.Millisecond)
				if err := w.proxy.Start(); err != nil {
					w.Error(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}},
		{name: "a name that nobody knows", net: instead(func(w *world) persist.Sink { return w.newSink("http://nowhere.invalid/persist/") })},
		{name: "TLS to a server that has none", net: instead(func(w *world) persist.Sink {
			return w.newSink(strings.Replace(w.django.server.URL, "http:", "https:", 1) + "/persist/")
		})},
		{name: "a certificate that nobody knows", net: instead(func(w *world) persist.Sink {
			server := httptest.NewTLSServer(http.NotFoundHandler())
			w.Cleanup(server.Close)
			return w.newSink(server.URL + "/persist/")
		})},
		{name: "restarts of the drain", net: func(w *world) {
			for range 5 {
				time.Sleep(5 * time.Millisecond)
				w.restart()
			}
		}},
	}
}

// play goes through a scenario: something is stored, it goes wrong in the midst of
// a chat, and gets well.
func (w *world) play(s scenario) {
	w.Helper()
	w.start()
	if !s.cold {
		w.log.add("warm/0")
		w.settled()
	}
	if s.fault != nil {
		w.django.misbehave(s.fault, s.requests)
	}
	names := chat()
	w.log.add(names[:15]...)
	if s.net != nil {
		s.net(w)
	}
	w.log.add(names[15:]...)
	if s.requests > 0 && s.requests < forEver {
		w.eventually("it went wrong often enough", func() bool { return w.django.faultsLeft() <= 0 || w.drain.Position().Sequence == w.log.Durable()+1 })
		w.log.add("later/0", "later/1")
	}
	w.settled()
	w.judge(s.dead)
}

// TestRigDjango plays every scenario, and in its long form as many mixtures of
// them as are asked for.
func TestRigDjango(t *testing.T) {
	if torture.Long() {
		torture.Run(t, 1, mixture)
		return
	}
	scenarios := append(answers(), network()...)
	if len(scenarios) < 40 {
		t.Errorf("there are %d scenarios", len(scenarios))
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			newWorld(t).play(s)
		})
	}
	t.Run("mixtures", func(t *testing.T) {
		t.Parallel()
		torture.Run(t, 5, mixture)
	})
}

// mixture lets several things go wrong, one after the other, drawn from a seed.
func mixture(r *torture.Round) {
	w := newWorld(r)
	w.start()
	list := append(answers(), network()...)
	names := chat()
	w.log.add("warm/0")
	w.settled()
	for len(names) > 0 {
		s := list[r.Rand.IntN(len(list))]
		if len(s.dead) > 0 || s.name == "429 for a month, and a restart" {
			continue
		}
		n := min(len(names), 1+r.Rand.IntN(12))
		if s.fault != nil {
			w.django.misbehave(s.fault, min(s.requests, 1+r.Rand.IntN(6)))
		}
		w.log.add(names[:n]...)
		names = names[n:]
		if s.net != nil {
			s.net(w)
		}
		time.Sleep(time.Duration(r.Rand.IntN(60)) * time.Millisecond)
		r.Count("faults", 1)
	}
	w.django.heal()
	if w.settled() {
		w.judge(w.excused())
	}
	w.halt()
}

// excused are the dead letters of messages that were refused more than once while
// others were stored: what several outages in turn may do to one.
func (w *world) excused() (dead []string) {
	w.django.mu.Lock()
	defer w.django.mu.Unlock()
	for _, n := range w.log.deadTexts() {
		if w.django.held[n] {
			dead = append(dead, n)
		}
	}
	return dead
}

// TestRigDjangoSickConversationHoldsUpNoOther: for as long as it is sick.
func TestRigDjangoSickConversationHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	w.attempt = forEver
	w.start()
	w.log.add("warm/0")
	w.settled()
	w.django.misbehave(errorsFor(func(n string) bool { return strings.HasPrefix(n, "a/") }, "deadlock detected", ""), forEver)
	w.log.add(chat()...)
	w.eventually("the others are stored", func() bool { return len(w.django.names()) == 21 })
	if p := w.drain.Position().Sequence; p != 2 {
		t.Errorf("the position is %d, and message 2 is not settled", p)
	}
	w.django.heal()
	w.settled()
	w.judge(nil)
}

// TestRigDjangoCatchesAnAnswerThatIsTakenForStored, and a position that runs
// ahead: each loses messages, and the judge must see it.
func TestRigDjangoCatchesAnAnswerThatIsTakenForStored(t *testing.T) {
	torture.Control(t, 3, func(r *torture.Round) {
		w := newWorld(r)
		w.sink.set(credulous{w.sink.now})
		w.play(scenario{fault: says(500, ""), requests: 2})
		w.halt()
	})
}

// credulous takes every answer for a good one.
type credulous struct{ persist.Sink }

func (c credulous) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	a := c.Sink.Deliver(ctx, batch)
	if a.Verdict != persist.Accounted {
		a = persist.Answer{Verdict: persist.Accounted, Results: make([]persist.Result, len(batch))}
		for i := range a.Results {
			a.Results[i].Stored = true
		}
	}
	return a
}

// TestRigDjangoCatchesAPositionThatRunsAhead: after a restart what it passed is
// lost.
func TestRigDjangoCatchesAPositionThatRunsAhead(t *testing.T) {
	torture.Control(t, 3, func(r *torture.Round) {
		w := newWorld(r)
		w.ledger = hasty{w.log}
		w.play(scenario{fault: says(500, ""), requests: 3, net: func(w *world) {
			w.eventually("the drain waits", w.drain.Waiting)
			w.restart()
		}})
		w.halt()
	})
}

// hasty says after a restart that all was settled that is in the log.
type hasty struct{ *memoryLog }

func (h hasty) Position() (messaging.Position, error) {
	return messaging.Position{Sequence: h.Durable() + 1}, nil
}
