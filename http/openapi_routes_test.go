package http_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/engine"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/persist"
)

// backend stores every message, except those to the user "unlucky", which it refuses
// permanently.
type backend struct{}

func (backend) Deliver(_ context.Context, batch []messaging.Message) persist.Response {
	a := persist.Response{Class: persist.Accounted, Status: http.StatusOK, Results: make([]persist.Result, len(batch))}
	for i := range batch {
		if a.Results[i].Stored = batch[i].Receiver.User != "unlucky"; !a.Results[i].Stored {
			a.Results[i].Error, a.Results[i].Permanent = "there is no such user", true
		}
	}
	return a
}

// TestEveryRouteRespondsAsDescribed calls every route with every result, plain, over TLS, and
// with the JWTs of users where a user may make the call.
func TestEveryRouteRespondsAsDescribed(t *testing.T) {
	access := func() *auth.Access {
		return auth.New(auth.Config{Tokens: []auth.Token{{Name: "a", Secret: backendToken}}, Users: usersOf(true), AllowedHosts: []string{"127.0.0.1"}})
	}
	t.Run("plain", func(t *testing.T) { everyRoute(t, rest.Config{Access: access()}, nil) })
	t.Run("TLS", func(t *testing.T) { everyRoute(t, rest.Config{Access: access(), TLS: serverTLS()}, nil) })
	t.Run("JWTs", func(t *testing.T) { everyRoute(t, rest.Config{Access: access()}, jwtOrToken) })
}

// jwtOrToken returns the JWT of the user that a call is about, and the token of the backend
// for calls that no user may make.
func jwtOrToken(path, body string) string {
	if rest, ok := strings.CutPrefix(path, "/api/messages/queue/"); ok {
		if user, _, _ := strings.Cut(strings.SplitN(rest, "?", 2)[0], "/"); isUser(user) {
			return jwtOf(user)
		}
	}
	var of struct {
		User    any   `json:"user_id"`
		Sender  any   `json:"sender_id"`
		Persist *bool `json:"persist"`
	}
	if !strings.HasPrefix(path, "/api/messages/") || json.Unmarshal([]byte(body), &of) != nil || of.Persist != nil {
		return backendToken
	}
	for _, id := range []any{of.User, of.Sender} {
		if user := fmt.Sprint(id); id != nil && isUser(user) {
			return jwtOf(user)
		}
	}
	return backendToken
}

func isUser(text string) bool {
	_, ok := messaging.ParseUserID(text)
	return ok
}

func everyRoute(t *testing.T, config rest.Config, tokenFor func(path, body string) string) {
	t.Helper()
	d := describe(t)
	free := new(atomic.Uint64)
	free.Store(2)
	s := serveEngine(t, config,
		engine.Config{MinFree: 1, Free: func() (uint64, error) { return free.Load(), nil }, MaxLeases: 3})
	jobs, err := persist.NewJobs(persist.JobsConfig{
		Store: s.engine.DeadLetters(), History: s.log, DeadLetters: s.engine.DeadLetters(), Letters: s.engine.DeadLetters(), Sink: backend{},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.backend.Jobs = jobs
	s.server.Open(s.backend)

	s.tokenFor = tokenFor
	d.operation(s)
	d.refusedToAll(s)
	d.refusedBodies(s)
	d.sends(s, free)
	d.queues(s)
	d.leases(s)
	d.deadLetters(s)
	d.fullDisk(s, free)
	d.jobs(s, jobs)
	d.wantAll()
}

func (d *described) get(s *served, path string) map[string]any {
	d.t.Helper()
	return d.call(s, call{method: "GET", path: path, status: 200})
}

func (d *described) post(s *served, path, body string) map[string]any {
	d.t.Helper()
	return d.call(s, call{method: "POST", path: path, body: body, status: 200})
}

func (d *described) operation(s *served) {
	d.t.Helper()
	for _, path := range []string{"/health", "/health/ready", "/metrics", "/openapi.json", "/api/stats"} {
		d.get(s, path)
	}
	s.full = true
	for _, method := range []string{"GET", "HEAD"} {
		d.call(s, call{method: method, path: "/health", status: 200})
		d.call(s, call{method: method, path: "/health/ready", status: 503})
	}
	s.full = false
	d.call(s, call{method: "HEAD", path: "/health/ready", status: 200})
}

// refusedToAll checks the refusals that every call has in common.
func (d *described) refusedToAll(s *served) {
	d.t.Helper()
	early := serveUnopened(d.t, rest.Config{Access: loopbackOnly})
	throttling := serveUnopened(d.t, guarded(rest.Config{}))
	for range 20 {
		throttling.raw("GET", "/api/stats", "", map[string]string{"Authorization": "Bearer wrong"})
	}
	d.call(early, call{method: "GET", path: "/health/ready", status: 503})
	for operation, o := range d.operations() {
		method, path, _ := strings.Cut(operation, " ")
		path = concrete(path)
		body := ""
		if media, ok := members(members(o["requestBody"])["content"])["application/json"]; ok {
			body = d.example(operation, media)
		}
		if method != "HEAD" {
			d.call(s, call{method: "PATCH", path: path, status: 405, code: "method_not_allowed", as: method})
		}
		if strings.HasPrefix(path, "/health") {
			continue
		}
		refused := func(s *served, status int, code, name, value string) {
			d.call(s, call{method: method, path: path, body: body, header: map[string]string{name: value}, status: status, code: code})
		}
		refused(s, 401, "unauthorized", "Authorization", "Digest wrong")
		refused(throttling, 429, "too_many_requests", "Authorization", "Bearer wrong")
		refused(s, 421, "misdirected_request", "Host", "messages.example")
		refused(early, 403, "forbidden", "Sec-Fetch-Site", "cross-site")
		if !unseen(operation, "503") {
			refused(early, 503, "not_ready", "Accept", "*/*")
		}
	}
}

// refusedBodies checks the refusals that all calls with a body have in common.
func (d *described) refusedBodies(s *served) {
	d.t.Helper()
	large := message[:len(message)-1] + `,"message_type":"` + strings.Repeat("x", 65) + `"}`
	many := `["x"` + strings.Repeat(`,"x"`, 10_000) + `]`
	for path, tooMuch := range map[string]string{
		"/api/messages/send":        large,
		"/api/messages/batch":       `{"messages":[` + message + "," + large + `]}`,
		"/api/messages/broadcast":   `{"user_ids":[1],"message":` + large + `}`,
		"/api/messages/ack":         `{"user_id":1,"receipts":` + many + `}`,
		"/api/messages/nack":        `{"user_id":1,"receipts":` + many + `}`,
		"/api/messages/extend":      `{"user_id":1,"lease":1,"receipts":` + many + `}`,
		"/api/dead-letters/redrive": `{"ids":` + many + `}`,
		"/api/replay":               `{"from_sequence":1}` + strings.Repeat(" ", messaging.MaxBody),
	} {
		d.call(s, call{method: "POST", path: path, body: "{", status: 400, code: "invalid_json"})
		d.call(s, call{method: "POST", path: path, body: "{}", status: 400, code: missing(path)})
		d.call(s, call{method: "POST", path: path, body: "{}", header: map[string]string{"Content-Type": "text/plain"}, status: 415, code: "unsupported_media_type"})
		d.call(s, call{method: "POST", path: path, body: tooMuch, status: 413, code: "too_large"})
	}
}

// missing returns the code of the refusal of an empty object.
func missing(path string) string {
	if path == "/api/dead-letters/redrive" {
		return "invalid_field"
	}
	return "missing_field"
}

func (d *described) sends(s *served, free *atomic.Uint64) {
	d.t.Helper()
	const rich = `{"conversation_id":"c","sender_id":"s","receiver_id":789,"text":"","message_type":"image","priority":"high","metadata":{"n":1e300},"own":[1.50],` +
		`"persist":false,"deliver_at":"2001-01-01T00:00:00+02:00","ttl_seconds":3600.5}`
	for path, body := range map[string]string{
		"/api/messages/send":      message,
		"/api/messages/batch":     `{"messages":[` + message + `,{"conversation_id":1,"sender_id":2,"receiver_id":"later","text":"x","delay_seconds":600}]}`,
		"/api/messages/broadcast": `{"message":{"sender_id":1,"text":"all","priority":"low"},"user_ids":[123,"unlucky","unfortunate",789]}`,
	} {
		d.post(s, path, body)
		sendWithKey := func(body string, status int, code string) map[string]any {
			return d.call(s, call{method: "POST", path: path, body: body, header: map[string]string{"Idempotency-Key": "k"}, status: status, code: code})
		}
		sendWithKey(body, 200, "")
		if repeated := sendWithKey(body, 200, ""); repeated["duplicate"] != true {
			d.t.Errorf("%s again: %v", path, repeated)
		}
		sendWithKey(strings.Replace(body, "text", "Text\":1,\"text", 1), 409, "idempotency_conflict")
		free.Store(0)
		_ = s.engine.MeasureDisk()
		d.call(s, call{method: "POST", path: path, body: body, status: 507, code: "disk_full"})
		free.Store(2)
		_ = s.engine.MeasureDisk()
	}
	d.post(s, "/api/messages/send", `{"idempotency_key":"k1",`+rich[1:])
	d.call(s, call{
		method: "POST", path: "/api/messages/batch", body: message + "\n\n" + rich + "\n",
		header: map[string]string{"Content-Type": "application/x-ndjson"}, status: 200,
	})
	for _, c := range []struct{ body, code string }{
		{`{"messages":[` + message + `,{"id":1}]}`, "reserved_field"},
		{`{"messages":[` + message + `,{"a":1,"a":2}]}`, "duplicate_key"},
		{`{"messages":[` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]}`, "invalid_json"},
	} {
		if got := d.call(s, call{method: "POST", path: "/api/messages/batch", body: c.body, status: 400, code: c.code}); got["index"] == nil {
			d.t.Errorf("no index: %v", got)
		}
	}
	d.call(s, call{method: "POST", path: "/api/messages/send", body: `{"text":"` + "\x01" + `"}`, status: 400, code: "invalid_text"})
	d.call(s, call{method: "POST", path: "/api/messages/send", body: `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, status: 400, code: "too_deep"})
}

func (d *described) queues(s *served) {
	d.t.Helper()
	const path = "/api/messages/queue/"
	d.get(s, path+"789?peek=true&max_count=1000")
	d.get(s, path+"nobody?wait=1")
	for _, user := range []string{"789", "later"} {
		d.get(s, path+user+"/size")
	}
	if got := d.get(s, path+"789?max_count=1&wait=60"); got["count"] != 1.0 {
		d.t.Errorf("took %v", got)
	}
	d.call(s, call{method: "DELETE", path: path + "later", status: 200})
	for _, c := range []call{
		{method: "GET", path: path + "789?max_count=0"},
		{method: "GET", path: path + "789?follow=1"},
		{method: "GET", path: path + "a%20b"},
		{method: "DELETE", path: path + "a%20b"},
		{method: "GET", path: path + "a%20b/size"},
	} {
		c.status, c.code = 400, "invalid_field"
		d.call(s, c)
	}
}

func (d *described) leases(s *served) {
	d.t.Helper()
	taken := d.get(s, "/api/messages/queue/789?lease=600&max_count=3")
	d.call(s, call{method: "GET", path: "/api/messages/queue/789?lease=600", status: 429, code: "too_many_requests"})
	var receipts []string
	list, _ := taken["messages"].([]any)
	for _, m := range list {
		receipt, _ := members(m)["receipt"].(string)
		receipts = append(receipts, receipt)
	}
	if len(receipts) != 3 {
		d.t.Fatalf("leased %v", taken)
	}
	d.get(s, "/api/messages/queue/789/size")
	d.post(s, "/api/messages/extend", fmt.Sprintf(`{"user_id":789,"receipts":[%q,"x"],"lease":0.1e2}`, receipts[0]))
	d.post(s, "/api/messages/nack", fmt.Sprintf(`{"user_id":"789","receipts":[%q],"delay_seconds":0.5}`, receipts[0]))
	d.post(s, "/api/messages/nack", fmt.Sprintf(`{"user_id":"789","receipts":[%q,%q]}`, receipts[0], receipts[1]))
	d.post(s, "/api/messages/ack", fmt.Sprintf(`{"user_id":789,"receipts":[%q,%q,"x"]}`, receipts[2], receipts[1]))
}

func (d *described) deadLetters(s *served) {
	d.t.Helper()
	const path = "/api/dead-letters"
	d.get(s, path)
	log, _, err := s.log.Read(messaging.Position{Sequence: 1}, 1000, 1<<20)
	if err != nil {
		d.t.Fatal(err)
	}
	var letters []messaging.DeadLetter
	for i := range log {
		l := messaging.DeadLetter{
			ID: messaging.DeadLetterID(messaging.Refused, log[i].ID), Kind: messaging.Refused, Reason: "there is no such user",
			StatusCode: 400, Attempts: 5, FailedAt: time.Now(), Message: log[i],
		}
		if !log[i].Copy {
			l.ID, l.Kind = messaging.DeadLetterID(messaging.Undeliverable, log[i].ID), messaging.Undeliverable
			l.Reason, l.StatusCode = "nobody acknowledged it in 5 deliveries", 0
		}
		letters = append(letters, l)
	}
	if err := s.engine.DeadLetters().AddDeadLetters(letters, messaging.Progress{}); err != nil {
		d.t.Fatal(err)
	}
	d.get(s, path+"?kind=refused&reason=there+is+no+such+user")
	page := d.get(s, path+"?limit=1")
	next, _ := page["next"].(string)
	if shown := d.get(s, path+"/"+next); members(shown["dead_letter"])["id"] != next {
		d.t.Errorf("%s: %v", next, shown)
	}
	d.get(s, path+"?limit=1000&after="+next)
	d.call(s, call{method: "DELETE", path: path + "/" + next, status: 200})
	for _, method := range []string{"GET", "DELETE"} {
		d.call(s, call{method: method, path: path + "/" + next, status: 404, code: "not_found"})
		d.call(s, call{method: method, path: path + "/refused-1", status: 400, code: "invalid_field"})
	}
	d.call(s, call{method: "GET", path: path + "?kind=x", status: 400, code: "invalid_field"})
	d.call(s, call{method: "POST", path: path + "/redrive", body: `{"ids":["` + next + `"]}`, status: 404, code: "not_found"})
}

// fullDisk checks the calls of operators on a full disk: new jobs are refused, and calls
// that free space succeed.
func (d *described) fullDisk(s *served, free *atomic.Uint64) {
	d.t.Helper()
	job := members(d.post(s, "/api/replay", `{"from_sequence":1}`)["job"])
	letters, _ := d.get(s, "/api/dead-letters?limit=1")["dead_letters"].([]any)
	free.Store(0)
	_ = s.engine.MeasureDisk()
	d.call(s, call{method: "POST", path: "/api/replay", body: `{"from_sequence":1}`, status: 507, code: "disk_full"})
	d.call(s, call{method: "POST", path: "/api/dead-letters/redrive", body: `{"all":true}`, status: 507, code: "disk_full"})
	d.call(s, call{method: "DELETE", path: fmt.Sprint("/api/dead-letters/", members(letters[0])["id"]), status: 200})
	for range 2 { // it is cancelled, and then forgotten
		d.call(s, call{method: "DELETE", path: fmt.Sprint("/api/jobs/", job["id"]), status: 200})
	}
	free.Store(2)
	_ = s.engine.MeasureDisk()
}

func (d *described) jobs(s *served, jobs *persist.Jobs) {
	d.t.Helper()
	const redrive, replay = "/api/dead-letters/redrive", "/api/replay"
	d.get(s, "/api/jobs")
	first := members(d.post(s, replay, `{"from_sequence":1,"rate":1,"user_id":"789"}`)["job"])
	path := fmt.Sprint("/api/jobs/", first["id"])
	d.post(s, replay, `{"from_time":"2001-01-01T00:00:00Z","to_sequence":2,"user_id":"789"}`)
	d.post(s, redrive, `{"all":true,"kind":"undeliverable"}`)
	for range 7 { // eight jobs of each kind may run
		d.post(s, redrive, `{"reason":"there is no such user"}`)
	}
	d.post(s, replay, `{"from_sequence":1}`)
	for range 5 {
		d.post(s, replay, `{"from_sequence":1,"user_id":"789"}`)
	}
	d.call(s, call{method: "POST", path: replay, body: `{"from_sequence":1}`, status: 429, code: "too_many_requests"})
	d.call(s, call{method: "POST", path: redrive, body: `{"all":true}`, status: 429, code: "too_many_requests"})
	d.get(s, path)

	ctx, stop := context.WithCancel(d.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- jobs.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			d.t.Error(err)
		}
	}()
	eventually(d.t, func() bool { return members(d.get(s, path)["job"])["eta_seconds"] != nil })
	for range 2 { // it is cancelled, and then forgotten
		if got := members(d.call(s, call{method: "DELETE", path: path, status: 200})["job"]); got["state"] != "cancelled" {
			d.t.Errorf("%v", got)
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		d.call(s, call{method: method, path: path, status: 404, code: "not_found"})
	}
	eventually(d.t, func() bool { // a job has an error
		list, _ := d.get(s, "/api/jobs")["jobs"].([]any)
		return slices.ContainsFunc(list, func(j any) bool { return members(j)["error"] != nil })
	})
	d.get(s, "/api/dead-letters")
}
