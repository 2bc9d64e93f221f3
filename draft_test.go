package messaging_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/internal/hostiletest"
)

const whole = `{"conversation_id":123,"sender_id":456,"receiver_id":789,"text":"Hello!","message_type":"text","priority":"normal","metadata":{}}`

// with returns a valid message with an additional member, or with another value of a
// member that it has.
func with(name, value string) string {
	if slices.Contains([]string{"conversation_id", "sender_id", "receiver_id"}, name) {
		return strings.Replace(whole, `"`+name+`":`+whole[strings.Index(whole, name)+len(name)+2:strings.Index(whole, name)+len(name)+5], `"`+name+`":`+value, 1)
	}
	switch name {
	case "text":
		return strings.Replace(whole, `"Hello!"`, value, 1)
	case "priority":
		return strings.Replace(whole, `"priority":"normal"`, `"priority":`+value, 1)
	case "metadata":
		return strings.Replace(whole, `"metadata":{}`, `"metadata":`+value, 1)
	}
	return strings.Replace(whole, `{`, `{"`+name+`":`+value+`,`, 1)
}

func TestBadMessagesAreRefusedWithCodeAndField(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, c := range []struct {
		name, body string
		code       messaging.Code
		field      string
	}{
		{"empty", "", messaging.CodeInvalidJSON, ""},
		{"space", "  \n", messaging.CodeInvalidJSON, ""},
		{"null", "null", messaging.CodeInvalidJSON, ""},
		{"array", "[]", messaging.CodeInvalidJSON, ""},
		{"string", `"x"`, messaging.CodeInvalidJSON, ""},
		{"truncated", whole[:50], messaging.CodeInvalidJSON, ""},
		{"two documents", whole + whole, messaging.CodeInvalidJSON, ""},
		{"trailing text", whole + "x", messaging.CodeInvalidJSON, ""},
		{"byte order mark", "\ufeff" + whole, messaging.CodeInvalidJSON, ""},
		{"comment", "/**/" + whole, messaging.CodeInvalidJSON, ""},
		{"NaN", with("x", "NaN"), messaging.CodeInvalidJSON, ""},
		{"too deep", with("metadata", deep), messaging.CodeTooDeep, ""},
		{"too deep for the library", strings.Repeat("[", 20000), messaging.CodeTooDeep, ""},
		{"too deep in a field", with("x", strings.Repeat("[", 20000)+strings.Repeat("]", 20000)), messaging.CodeTooDeep, ""},
		{"duplicate", with("x", `1,"x":2`), messaging.CodeDuplicateKey, ""},
		{"duplicate inside", with("metadata", `{"a":1,"a":1}`), messaging.CodeDuplicateKey, ""},
		{"invalid UTF-8", with("text", "\"\xff\""), messaging.CodeInvalidText, ""},
		{"lone surrogate", with("text", `"\ud800"`), messaging.CodeInvalidText, ""},
		{"control character", with("text", "\"\x01\""), messaging.CodeInvalidText, ""},
		{"NUL", with("text", `"a\u0000"`), messaging.CodeInvalidText, ""},
		{"NUL in a key", with("metadata", `{"\u0000":1}`), messaging.CodeInvalidText, ""},
		{"negative id", with("receiver_id", "-1"), messaging.CodeInvalidField, "receiver_id"},
		{"negative zero", with("receiver_id", "-0"), messaging.CodeInvalidField, "receiver_id"},
		{"float id", with("receiver_id", "1.0"), messaging.CodeInvalidField, "receiver_id"},
		{"exponent id", with("receiver_id", "1e3"), messaging.CodeInvalidField, "receiver_id"},
		{"2^63", with("receiver_id", "9223372036854775808"), messaging.CodeInvalidField, "receiver_id"},
		{"boolean id", with("sender_id", "true"), messaging.CodeInvalidField, "sender_id"},
		{"array id", with("conversation_id", "[]"), messaging.CodeInvalidField, "conversation_id"},
		{"null id", with("receiver_id", "null"), messaging.CodeInvalidField, "receiver_id"},
		{"long id", with("receiver_id", `"`+strings.Repeat("a", 65)+`"`), messaging.CodeInvalidField, "receiver_id"},
		{"foreign id", with("receiver_id", `"a/b"`), messaging.CodeInvalidField, "receiver_id"},
		{"empty id", with("receiver_id", `""`), messaging.CodeInvalidField, "receiver_id"},
		{"no text", strings.Replace(whole, `"text":"Hello!",`, "", 1), messaging.CodeMissingField, "text"},
		{"no receiver", strings.Replace(whole, `"receiver_id":789,`, "", 1), messaging.CodeMissingField, "receiver_id"},
		{"folded key", strings.Replace(whole, "receiver_id", "Receiver_id", 1), messaging.CodeMissingField, "receiver_id"},
		{"text a number", with("text", "1"), messaging.CodeInvalidField, "text"},
		{"long text", with("text", `"`+strings.Repeat("x", messaging.MaxText+1)+`"`), messaging.CodeTooLarge, "text"},
		{"priority in capitals", with("priority", `"HIGH"`), messaging.CodeInvalidField, "priority"},
		{"no priority", with("priority", `""`), messaging.CodeInvalidField, "priority"},
		{"priority a number", with("priority", `0`), messaging.CodeInvalidField, "priority"},
		{"metadata null", with("metadata", "null"), messaging.CodeInvalidField, "metadata"},
		{"large metadata", with("metadata", `{"a":"`+strings.Repeat("x", messaging.MaxMetadata)+`"}`), messaging.CodeTooLarge, "metadata"},
		{"id", with("id", "1"), messaging.CodeReservedField, "id"},
		{"receipt", with("receipt", "1"), messaging.CodeReservedField, "receipt"},
		{"an integer of 309 digits", with("x", strings.Repeat("1", 309)), messaging.CodeInvalidField, "x"},
		{"4301 digits in metadata", with("metadata", `{"n":`+strings.Repeat("1", 4301)+`}`), messaging.CodeInvalidField, "metadata"},
		{"331 characters", with("x", "[0."+strings.Repeat("1", 329)+"]"), messaging.CodeInvalidField, "x"},
		{"beyond a double", with("x", `{"y":[-1.8e308]}`), messaging.CodeInvalidField, "x"},
		{"far beyond a double", with("x", "1e9999999999"), messaging.CodeInvalidField, "x"},
		{"beyond a double under a long name", with(strings.Repeat("x", 65), "1e400"), messaging.CodeInvalidField, ""},
		{"id of a dot", with("receiver_id", `"."`), messaging.CodeInvalidField, "receiver_id"},
		{"id of two dots", with("conversation_id", `".."`), messaging.CodeInvalidField, "conversation_id"},
		{"time with a comma", with("deliver_at", `"2030-01-02T03:04:05,5Z"`), messaging.CodeInvalidField, "deliver_at"},
		{"time with an hour of one digit", with("deliver_at", `"2030-01-02T3:04:05Z"`), messaging.CodeInvalidField, "deliver_at"},
		{"time with an offset of a day", with("expires_at", `"2030-01-02T03:04:05+24:00"`), messaging.CodeInvalidField, "expires_at"},
		{"time without an offset", with("expires_at", `"2030-01-02T03:04:05"`), messaging.CodeInvalidField, "expires_at"},
		{"persist a string", with("persist", `"no"`), messaging.CodeInvalidField, "persist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := messaging.ParseDraft([]byte(c.body))
			e, ok := errors.AsType[*messaging.Error](err)
			if !ok || e.Code != c.code || e.Field != c.field {
				t.Fatalf("got %v (%+v), want %s %s", err, e, c.code, c.field)
			}
			if c.code == messaging.CodeInvalidJSON && !strings.HasPrefix(e.Message, "Invalid JSON") {
				t.Errorf("the message is %q", e.Message)
			}
		})
	}
}

func TestMessageIsWrittenAsItCame(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"numbers keep their digits", with("receiver_id", "9007199254740993"), with("receiver_id", "9007199254740993")[1:]},
		{"unknown fields", with("x", `{"y": 1.50, "z":[1e2]}`), with("x", `{"y": 1.50, "z":[1e2]}`)[1:]},
		{"numbers at the bounds", with("x", "["+strings.Repeat("9", 308)+",1.7976931348623157e308,-1e-400,0."+strings.Repeat("1", 328)+`,"`+strings.Repeat("1", 4301)+`"]`), with("x", "["+strings.Repeat("9", 308)+",1.7976931348623157e308,-1e-400,0."+strings.Repeat("1", 328)+`,"`+strings.Repeat("1", 4301)+`"]`)[1:]},
		{"odd text", with("text", `"\u202e\u200b__proto__ 😀"`), with("text", `"\u202e\u200b__proto__ 😀"`)[1:]},
		{"escaped backslash", with("text", `"\\u0000"`), with("text", `"\\u0000"`)[1:]},
		{"white space", " " + whole + "\n", whole[1:]},
		{"persist first", with("persist", "true"), whole[1:]},
		{"persist last", whole[:len(whole)-1] + ` , "persist" : false }`, whole[1:len(whole)-1] + " }"},
		{"persist in between", strings.Replace(whole, `"text"`, `"persist":true,"text"`, 1), whole[1:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, c.body)
			got := string(m.AppendJSON(nil))
			if want := `{"id":"00000000-0000-0000-0000-000000000000","sequence":7,"created_at":"2026-01-02T03:04:05.006Z",` + c.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if !jsontext.Value(got).IsValid() {
				t.Errorf("not JSON: %s", got)
			}
		})
	}
}

func parse(t *testing.T, body string) messaging.Message {
	t.Helper()
	d, err := messaging.ParseDraft([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return messaging.Message{
		Position: messaging.Position{Sequence: 7}, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
		Priority: d.Priority, Defaulted: d.Defaulted, Body: d.Body, NoPersist: d.NoPersist,
	}
}

func TestDefaultsAreAdded(t *testing.T) {
	m := parse(t, `{"conversation_id":1,"sender_id":"u-1","receiver_id":"789","text":"x","persist":false}`)
	want := `"message_type":"text","priority":"normal","metadata":{},"conversation_id":1,"sender_id":"u-1","receiver_id":"789","text":"x"}`
	if got := string(m.AppendJSON(nil)); !strings.HasSuffix(got, want) || m.Priority != messaging.Normal || !m.NoPersist {
		t.Errorf("got %s, NoPersist %t", got, m.NoPersist)
	}
}

func TestNumberAndStringNameOneUser(t *testing.T) {
	a, err1 := messaging.ParseDraft([]byte(with("receiver_id", "789")))
	b, err2 := messaging.ParseDraft([]byte(with("receiver_id", `"7\u00389"`)))
	if err1 != nil || err2 != nil || a.Receiver != b.Receiver {
		t.Errorf("%q (%v) and %q (%v)", a.Receiver, err1, b.Receiver, err2)
	}
}

func TestBadBroadcastsAreRefused(t *testing.T) {
	message := `{"sender_id":1,"text":"x"}`
	many := strings.TrimSuffix(strings.Repeat("1,", messaging.MaxRecipients+1), ",")
	for _, c := range []struct {
		name, body string
		code       messaging.Code
		field      string
	}{
		{"no message", `{"user_ids":[1]}`, messaging.CodeMissingField, "message"},
		{"no users", `{"message":` + message + `}`, messaging.CodeMissingField, "user_ids"},
		{"empty users", `{"message":` + message + `,"user_ids":[]}`, messaging.CodeInvalidField, "user_ids"},
		{"users a string", `{"message":` + message + `,"user_ids":"1"}`, messaging.CodeInvalidField, "user_ids"},
		{"null user", `{"message":` + message + `,"user_ids":[null]}`, messaging.CodeInvalidField, "user_ids"},
		{"message a list", `{"message":[],"user_ids":[1]}`, messaging.CodeInvalidField, "message"},
		{"receiver", `{"message":{"sender_id":1,"text":"x","receiver_id":1},"user_ids":[1]}`, messaging.CodeInvalidField, "receiver_id"},
		{"no sender", `{"message":{"text":"x"},"user_ids":[1]}`, messaging.CodeMissingField, "sender_id"},
		{"too many users", `{"message":` + message + `,"user_ids":[` + many + `]}`, messaging.CodeTooLarge, "user_ids"},
		{"large message", `{"message":{"sender_id":1,"text":"x","y":"` + strings.Repeat("x", messaging.MaxBody) + `"},"user_ids":[1]}`, messaging.CodeTooLarge, "message"},
		{"folded key", `{"message":` + message + `,"uſer_ids":[1]}`, messaging.CodeInvalidField, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := messaging.ParseBroadcast([]byte(c.body))
			e, ok := errors.AsType[*messaging.Error](err)
			if !ok || e.Code != c.code || e.Field != c.field {
				t.Fatalf("got %v (%+v), want %s %s", err, e, c.code, c.field)
			}
		})
	}
}

func TestBroadcastOfTheLargestMessage(t *testing.T) {
	message := `{"sender_id":1,"text":"x","y":"` + strings.Repeat("x", messaging.MaxBody)
	message = message[:messaging.MaxBody-2] + `"}`
	if _, err := messaging.ParseBroadcast([]byte(`{"user_ids":[1],"message":   ` + message + `}`)); err != nil {
		t.Error(err)
	}
}

func TestReceiversRoundTrip(t *testing.T) {
	b, err := messaging.ParseBroadcast([]byte(`{"user_ids":[3,"3","b",1,"007",7],"message":{"persist":false,"sender_id":1,"text":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, chunk := range b.Receivers.Chunks() {
		list, err := messaging.DecodeReceivers(chunk)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			got = append(got, fmt.Sprintf("%s:%t", r.User, r.Quoted))
		}
	}
	if want := "3:false b:true 1:false 007:true 7:false"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if string(b.Draft.Body) != `{"sender_id":1,"text":"x"}` || !b.Draft.NoPersist {
		t.Errorf("body %s", b.Draft.Body)
	}
}

func FuzzParseDraft(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(with("persist", "false")))
	for _, body := range hostiletest.Bodies(f, "testdata/hostile", "json.txtar") {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := messaging.ParseDraft(body)
		if err != nil {
			if messaging.CodeOf(err) == messaging.CodeInternal {
				t.Error(err)
			}
			return
		}
		m := messaging.Message{Defaulted: d.Defaulted, Body: d.Body, Priority: d.Priority}
		if out := m.AppendJSON(nil); !jsontext.Value(out).IsValid() {
			t.Errorf("%s became %s", body, out)
		}
	})
}

func FuzzDecodeReceivers(f *testing.F) {
	f.Add([]byte{2, '1', 3, 'a'})
	f.Fuzz(func(t *testing.T, chunk []byte) {
		list, err := messaging.DecodeReceivers(chunk)
		if err != nil {
			return
		}
		var rs messaging.Receivers
		for _, r := range list {
			rs.Append(r)
		}
		if rs.Len() != len(list) {
			t.Errorf("%d became %d", len(list), rs.Len())
		}
	})
}

func BenchmarkParseDraft(b *testing.B) {
	body := []byte(whole)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := messaging.ParseDraft(body); err != nil {
			b.Fatal(err)
		}
	}
}
