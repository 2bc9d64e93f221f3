package http_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/persist"
)

// bound is a request at a bound. good is true on the side that is allowed.
type bound struct {
	method, path, body, key string
	good                    bool
}

func gets(good bool, paths ...string) (list []bound) {
	for _, path := range paths {
		list = append(list, bound{method: "GET", path: path, good: good})
	}
	return list
}

func posts(good bool, path string, bodies ...string) (list []bound) {
	for _, body := range bodies {
		list = append(list, bound{method: "POST", path: path, body: body, good: good})
	}
	return list
}

// with returns a copy of format for each of more, in which % is replaced by it.
func with(format string, more ...string) (list []string) {
	for _, m := range more {
		list = append(list, strings.Replace(format, "%", m, 1))
	}
	return list
}

func bounds() (list []bound) {
	const (
		send, batch, broadcast = "/api/messages/send", "/api/messages/batch", "/api/messages/broadcast"
		ack, nack, extend      = "/api/messages/ack", "/api/messages/nack", "/api/messages/extend"
		redrive, replay        = "/api/dead-letters/redrive", "/api/replay"
		queue, dead            = "/api/messages/queue/", "/api/dead-letters"
		letter                 = "refused-01a20b45-1895-76bd-b871-3ccb78a69ece"

		to     = `{"conversation_id":1,"sender_id":2,"text":"x","receiver_id":%}`
		more   = `{"conversation_id":1,"sender_id":2,"text":"x","receiver_id":3,%}`
		toAll  = `{"message":{"sender_id":2,"text":"x"},"user_ids":%}`
		forAll = `{"user_ids":[1],"message":{"sender_id":2,"text":"x",%}}`
	)
	long := strings.Repeat("x", 64)
	for _, part := range [][]bound{
		gets(true, queue+"5?max_count=1", queue+"5?max_count=1000", queue+"5?max_count=1001", queue+"5?lease=1", queue+"5?lease=3600", queue+"5?wait=0", queue+"5?peek=true", queue+"5?peek=false", queue+long),
		gets(false, queue+"5?max_count=0", queue+"5?max_count=-1", queue+"5?lease=0", queue+"5?lease=3601", queue+"5?wait=61", queue+"5?peek=yes", queue+long+"x", queue+"a%20b"),
		gets(true, dead+"?limit=1", dead+"?limit=1000", dead+"?kind=undeliverable", dead+"?after="+letter),
		gets(false, dead+"?limit=0", dead+"?limit=1001", dead+"?kind=other", dead+"?after=1", dead+"/refused-1"),
		// The validator reads numbers as floats, which cannot represent 2^63-1.
		posts(true, send, with(to, "0", "9223372036854774784", `"789"`, `"a_.:@-Z"`, `"`+long+`"`)...),
		posts(false, send, with(to, "-1", "9223372036854777856", "1.5", `""`, `"a b"`, `"`+long+`x"`, "null", "[1]")...),
		posts(true, send, with(more, `"message_type":"x"`, `"priority":"low"`, `"metadata":{}`, `"persist":true`, `"delay_seconds":0`, `"ttl_seconds":3155760000`,
			`"deliver_at":"2001-01-01T00:00:00Z"`, `"expires_at":"2101-01-01T00:00:00.5+01:00"`, `"idempotency_key":"!~"`, `"own":null`)...),
		posts(false, send, with(more, `"message_type":""`, `"message_type":"`+long+`x"`, `"priority":"urgent"`, `"metadata":[]`, `"persist":"no"`, `"delay_seconds":-1`,
			`"ttl_seconds":3155760001`, `"deliver_at":"tomorrow"`, `"deliver_at":1`, `"idempotency_key":"a b"`, `"idempotency_key":""`, `"id":1`, `"sequence":1`, `"created_at":1`,
			`"receipt":1`, `"deliveries":1`, `"deliver_at":"2001-01-01T00:00:00Z","delay_seconds":1`, `"expires_at":"2101-01-01T00:00:00Z","ttl_seconds":1`)...),
		posts(false, send, `{}`, `[]`, `{"conversation_id":1,"sender_id":2,"receiver_id":3}`, `{"sender_id":2,"receiver_id":3,"text":"x"}`),
		posts(true, broadcast, with(toAll, `[1]`, `[1,"1","a"]`)...),
		posts(false, broadcast, with(toAll, `[]`, `1`, `[null]`, `[1],"own":1`, `[1],"idempotency_key":"k"`)...),
		posts(true, broadcast, with(forAll, `"conversation_id":1`, `"priority":"high"`)...),
		posts(false, broadcast, with(forAll, `"receiver_id":1`, `"idempotency_key":"k"`, `"priority":1`)...),
		posts(true, batch, `{"messages":[`+message+`]}`),
		posts(false, batch, `{"messages":[]}`, `{"messages":[{}]}`, `{"messages":[`+message+`],"own":1}`, `{"messages":[{"idempotency_key":"k",`+message[1:]+`]}`),
		posts(true, ack, `{"user_id":1,"receipts":["x"]}`, `{"user_id":"1","receipts":["x","x"]}`),
		posts(false, ack, `{"user_id":1}`, `{"receipts":["x"]}`, `{"user_id":1,"receipts":[]}`, `{"user_id":1,"receipts":[1]}`, `{"user_id":1,"receipts":["x"],"lease":1}`),
		posts(true, nack, `{"user_id":1,"receipts":["x"],"delay_seconds":0}`, `{"user_id":1,"receipts":["x"],"delay_seconds":86400}`),
		posts(false, nack, `{"user_id":1,"receipts":["x"],"delay_seconds":86401}`, `{"user_id":1,"receipts":["x"],"delay_seconds":"1"}`),
		posts(true, extend, `{"user_id":1,"receipts":["x"],"lease":1}`, `{"user_id":1,"receipts":["x"],"lease":3600}`),
		posts(false, extend, `{"user_id":1,"receipts":["x"]}`, `{"user_id":1,"receipts":["x"],"lease":0.5}`, `{"user_id":1,"receipts":["x"],"lease":3601}`),
		posts(true, redrive, `{"reason":"x"}`, `{"all":true,"kind":"refused"}`),
		posts(false, redrive, `{}`, `{"ids":[]}`, `{"ids":["x"]}`, `{"all":false}`, `{"all":true,"reason":"x"}`, `{"reason":""}`, `{"kind":"refused"}`,
			`{"ids":["`+letter+`"],"kind":"refused"}`, `{"all":true,"own":1}`),
		posts(true, replay, `{"from_sequence":1,"rate":1}`, `{"from_time":"2001-01-01T00:00:00Z","rate":1000000}`, `{"from_sequence":1,"to_time":"2101-01-01T00:00:00Z","user_id":1}`),
		posts(false, replay, `{}`, `{"from_sequence":0}`, `{"from_sequence":1,"rate":0}`, `{"from_sequence":1,"rate":1000001}`, `{"from_sequence":1,"from_time":"2001-01-01T00:00:00Z"}`,
			`{"from_sequence":1,"to_sequence":2,"to_time":"2001-01-01T00:00:00Z"}`, `{"from_time":"now"}`, `{"from_sequence":1,"own":1}`),
		{
			{"POST", send, message, "!~!", true},
			{"POST", send, message, "a b", false},
			{"POST", send, message, strings.Repeat("k", 255), true},
			{"POST", send, message, strings.Repeat("k", 256), false},
		},
	} {
		list = append(list, part...)
	}
	return list
}

// TestOpenAPIBoundsAreThoseOfTheService sends requests from both sides of every bound. The
// document and the service must both accept a request, or both refuse it.
func TestOpenAPIBoundsAreThoseOfTheService(t *testing.T) {
	d := describe(t)
	s := serve(t, rest.Config{Access: loopbackOnly})
	d.post(s, "/api/messages/send", message)
	for _, b := range bounds() {
		// Jobs that are not run stay, so each request gets new Jobs without any.
		jobs, err := persist.NewJobs(persist.JobsConfig{Store: noJobs{}, History: s.log, DeadLetters: s.engine.DeadLetters(), Sink: backend{}})
		if err != nil {
			t.Fatal(err)
		}
		s.backend.Jobs = jobs
		s.server.Open(s.backend)
		header := make(map[string]string)
		if b.key != "" {
			header["Idempotency-Key"] = b.key
		}
		got := s.raw(b.method, b.path, b.body, header)
		if taken := got.status == http.StatusOK; taken != b.good {
			t.Errorf("%s %s %.200s %s: got %d %s", b.method, b.path, b.body, b.key, got.status, got.text)
		}
		if ok, errs := d.validator.ValidateHttpRequest(s.request(b.method, b.path, b.body, header)); ok != b.good {
			t.Errorf("%s %s %.200s %s: the document accepts it: %t %s", b.method, b.path, b.body, b.key, ok, explain(errs))
		}
	}
}

// noJobs is a store of jobs that stores nothing.
type noJobs struct{}

func (noJobs) Jobs() (map[string][]byte, error)      { return map[string][]byte{}, nil }
func (noJobs) SaveProgress(messaging.Progress) error { return nil }
func (noJobs) ForgetJob(string) error                { return nil }
