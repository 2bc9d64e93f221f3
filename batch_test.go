package messaging_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stayafrica/messaging"
)

// readAll reads a batch to its end.
func readAll(b *messaging.BatchReader) (drafts []messaging.Draft, err error) {
	for {
		d, err := b.Next()
		if errors.Is(err, io.EOF) {
			return drafts, nil
		}
		if err != nil {
			return drafts, err
		}
		drafts = append(drafts, d)
	}
}

func batchOf(messages ...string) string { return `{"messages":[` + strings.Join(messages, ",") + `]}` }

func TestBatchesAreReadMessageByMessage(t *testing.T) {
	second := with("priority", `"high"`)
	for _, c := range []struct {
		name, body string
		lines      bool
		want       int
	}{
		{name: "one", body: batchOf(whole), want: 1},
		{name: "two", body: batchOf(whole, second), want: 2},
		{name: "white space", body: " {\n \"messages\" : [ " + whole + " , " + second + " ] } \n", want: 2},
		{name: "lines", body: whole + "\n" + second + "\n", lines: true, want: 2},
		{name: "empty lines and no last one", body: "\n\r\n" + whole + "\r\n\n" + second, lines: true, want: 2},
		{name: "a large message", body: batchOf(with("x", `"`+strings.Repeat("x", messaging.MaxBody-200)+`"`), whole), want: 2},
		{name: "a large line", body: with("x", `"`+strings.Repeat("x", messaging.MaxBody-200)+`"`) + "\n" + whole, lines: true, want: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			sources := map[string]io.Reader{"whole": strings.NewReader(c.body), "in halves": iotest.HalfReader(strings.NewReader(c.body))}
			if len(c.body) < messaging.MaxBody/2 {
				sources["byte by byte"] = iotest.OneByteReader(strings.NewReader(c.body))
			}
			for name, source := range sources {
				b := messaging.NewBatchReader(source)
				if c.lines {
					b = messaging.NewLinesReader(source)
				}
				drafts, err := readAll(b)
				if err != nil || len(drafts) != c.want {
					t.Fatalf("%s: %d messages (%v), want %d", name, len(drafts), err, c.want)
				}
				for i, want := range []messaging.Priority{messaging.Normal, messaging.High}[:c.want] {
					if strings.Contains(c.name, "large") {
						want = messaging.Normal
					}
					if drafts[i].Priority != want || drafts[i].Receiver != "789" || drafts[i].Body[0] != '{' {
						t.Errorf("%s: message %d is %+v", name, i, drafts[i])
					}
				}
			}
		})
	}
}

func TestBadBatchesAreRefusedWithIndexAndField(t *testing.T) {
	noText := strings.Replace(whole, `"text":"Hello!",`, "", 1)
	large := with("x", `"`+strings.Repeat("x", messaging.MaxBody)+`"`)
	for _, c := range []struct {
		name, body string
		lines      bool
		code       messaging.Code
		field      string
		item       int
	}{
		{name: "nothing", body: "", code: messaging.CodeInvalidJSON},
		{name: "no lines", body: "\n", lines: true, code: messaging.CodeInvalidField, field: "messages"},
		{name: "null", body: "null", code: messaging.CodeInvalidJSON},
		{name: "an array", body: "[" + whole + "]", code: messaging.CodeInvalidJSON},
		{name: "no messages", body: "{}", code: messaging.CodeMissingField, field: "messages"},
		{name: "empty", body: batchOf(), code: messaging.CodeInvalidField, field: "messages"},
		{name: "messages no array", body: `{"messages":1}`, code: messaging.CodeInvalidField, field: "messages"},
		{name: "another member first", body: `{"x":1,"messages":[]}`, code: messaging.CodeInvalidField},
		{name: "another member after", body: `{"messages":[` + whole + `],"x":1}`, code: messaging.CodeInvalidField},
		{name: "messages twice", body: `{"messages":[` + whole + `],"messages":[]}`, code: messaging.CodeInvalidField},
		{name: "two documents", body: batchOf(whole) + "{}", code: messaging.CodeInvalidJSON},
		{name: "cut off", body: batchOf(whole)[:60], code: messaging.CodeInvalidJSON, item: 1},
		{name: "cut off after a message", body: batchOf(whole)[:len(batchOf(whole))-2], code: messaging.CodeInvalidJSON, item: 2},
		{name: "cut off after the messages", body: batchOf(whole)[:len(batchOf(whole))-1], code: messaging.CodeInvalidJSON},
		{name: "a message is null", body: batchOf(whole, "null"), code: messaging.CodeInvalidJSON, item: 2},
		{name: "a message is bad", body: batchOf(whole, whole, noText), code: messaging.CodeMissingField, field: "text", item: 3},
		{name: "a line is bad", body: whole + "\n\n" + noText + "\n" + whole, lines: true, code: messaging.CodeMissingField, field: "text", item: 2},
		{name: "a line is no JSON", body: whole + "\nx\n", lines: true, code: messaging.CodeInvalidJSON, item: 2},
		{name: "two on a line", body: whole + whole + "\n", lines: true, code: messaging.CodeInvalidJSON, item: 1},
		{name: "a duplicate key", body: batchOf(with("x", `1,"x":2`)), code: messaging.CodeDuplicateKey, item: 1},
		{name: "not UTF-8", body: batchOf(whole, with("text", "\"\xff\"")), code: messaging.CodeInvalidText, item: 2},
		{name: "too deep", body: batchOf(with("x", strings.Repeat("[", 40)+strings.Repeat("]", 40))), code: messaging.CodeTooDeep, item: 1},
		{name: "far too deep", body: batchOf(with("x", strings.Repeat("[", 20000)+strings.Repeat("]", 20000))), code: messaging.CodeTooDeep, item: 1},
		{name: "a message with a key", body: batchOf(with("idempotency_key", `"k"`)), code: messaging.CodeInvalidField, field: "idempotency_key", item: 1},
		{name: "a message too large", body: batchOf(whole, large), code: messaging.CodeTooLarge, item: 2},
		{name: "a line too large", body: whole + "\n" + large, lines: true, code: messaging.CodeTooLarge, item: 2},
		{name: "too many", body: batchOf(strings.Repeat(whole+",", messaging.MaxBatch) + whole), code: messaging.CodeTooLarge, field: "messages"},
		{name: "too many lines", body: strings.Repeat(whole+"\n", messaging.MaxBatch+1), lines: true, code: messaging.CodeTooLarge, field: "messages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := messaging.NewBatchReader(strings.NewReader(c.body))
			if c.lines {
				b = messaging.NewLinesReader(strings.NewReader(c.body))
			}
			_, err := readAll(b)
			e, ok := errors.AsType[*messaging.Error](err)
			if !ok || e.Code != c.code || e.Field != c.field || e.Item != c.item {
				t.Fatalf("got %v (%+v), want %s %s of %d", err, e, c.code, c.field, c.item)
			}
		})
	}
}

func TestBrokenSourceIsNotTheClientsFault(t *testing.T) {
	broken := errors.New("connection reset")
	for _, reader := range []func(io.Reader) *messaging.BatchReader{messaging.NewBatchReader, messaging.NewLinesReader} {
		_, err := readAll(reader(io.MultiReader(strings.NewReader(batchOf(whole)[:80]), iotest.ErrReader(broken))))
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
}

// endless is a source that returns begin once, then again repeatedly, until it has
// returned left bytes.
type endless struct {
	begin, again string
	left         int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	if e.begin == "" {
		e.begin = e.again
	}
	n := copy(p, e.begin)
	e.begin = e.begin[n:]
	e.left -= n
	return n, nil
}

// TestMemoryDoesNotFollowTheSizeOfABatch reads batches of 256 MiB with an endless
// message or endless white space. The reader allocates at most 16 MiB.
func TestMemoryDoesNotFollowTheSizeOfABatch(t *testing.T) {
	const size = 256 << 20
	for name, source := range map[string]*endless{
		"one endless string": {begin: `{"messages":[{"text":"`, again: strings.Repeat("x", 4096), left: size},
		"white space":        {begin: `{"messages":[` + whole, again: strings.Repeat(" ", 4096), left: size},
		"one endless array":  {begin: `{"messages":[{"x":[`, again: strings.Repeat("1,", 2048), left: size},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := readAll(messaging.NewBatchReader(source)); err == nil {
				t.Fatal("the batch was accepted")
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
				t.Errorf("it took %d MiB", took>>20)
			}
		})
	}
}

func TestControlFieldsAreReadAndNotEchoed(t *testing.T) {
	d, err := messaging.ParseDraft([]byte(with("delay_seconds", `90.5,"ttl_seconds":3600,"idempotency_key":"k!~"`)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_000_000)
	if at := d.Due.On(now); !at.Equal(now.Add(90500 * time.Millisecond)) {
		t.Errorf("due at %s", at)
	}
	if at := d.Expires.On(now); !at.Equal(now.Add(time.Hour)) {
		t.Errorf("expires at %s", at)
	}
	if d.Key != "k!~" || string(d.Body) != whole {
		t.Errorf("key %q, body %s", d.Key, d.Body)
	}
	if want := with("delay_seconds", `90.5,"ttl_seconds":3600`); string(d.Raw) != want {
		t.Errorf("the raw body is %s, want %s", d.Raw, want)
	}
	d, err = messaging.ParseDraft([]byte(with("deliver_at", `"2030-01-02T03:04:05.678+01:00"`)))
	if want := time.Date(2030, 1, 2, 2, 4, 5, 678e6, time.UTC); err != nil || !d.Due.On(now).Equal(want) {
		t.Errorf("due at %s (%v)", d.Due.On(now), err)
	}
	if d.Expires.Given() || !d.Expires.On(now).IsZero() {
		t.Error("the draft expires")
	}
}

func TestBadControlFieldsAreRefused(t *testing.T) {
	for _, c := range []struct{ field, value string }{
		{"delay_seconds", "-1"},
		{"delay_seconds", "-0"},
		{"delay_seconds", `"5"`},
		{"delay_seconds", "1e300"},
		{"delay_seconds", "4e9"},
		{"delay_seconds", "null"},
		{"ttl_seconds", "true"},
		{"deliver_at", `"tomorrow"`},
		{"deliver_at", `"2030-01-02"`},
		{"deliver_at", `"1969-12-31T23:59:59Z"`},
		{"deliver_at", "5"},
		{"expires_at", `""`},
		{"idempotency_key", `""`},
		{"idempotency_key", `"a b"`},
		{"idempotency_key", `"\n"`},
		{"idempotency_key", "1"},
		{"idempotency_key", `"` + strings.Repeat("x", 256) + `"`},
		{"deliver_at", `"2030-01-02T03:04:05Z","delay_seconds":5`},
		{"ttl_seconds", `5,"expires_at":"2030-01-02T03:04:05Z"`},
	} {
		_, err := messaging.ParseDraft([]byte(with(c.field, c.value)))
		e, ok := errors.AsType[*messaging.Error](err)
		if !ok || e.Code != messaging.CodeInvalidField || e.Field == "" {
			t.Errorf("%s %s: %v", c.field, c.value, err)
		}
	}
}

func TestBatchIDCountsUp(t *testing.T) {
	first := messaging.MessageID{0: 1, 6: 0x70, 8: 0xBF, 9: 0xFF, 10: 0xFF, 11: 0xFF, 12: 0xFF, 13: 0xFF, 14: 0xFF, 15: 0xFE}
	seen := make(map[messaging.MessageID]bool)
	for n := range 5 {
		id := messaging.BatchID(first, n)
		if id[8]>>6 != 0b10 || id[0] != 1 || id[6] != 0x70 || seen[id] {
			t.Errorf("id %d is %s", n, id)
		}
		seen[id] = true
	}
	if messaging.BatchID(first, 0) != first {
		t.Error("the first id is not the given one")
	}
}
