package http_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	rest "github.com/stayafrica/messaging/http"
)

var jwtSecret = []byte("a secret of the Django backend")

// jwtOf returns the JWT of a user, as Django SimpleJWT makes it.
func jwtOf(user string) string {
	token, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"token_type": "access", "exp": time.Now().Add(time.Minute).Unix(), "user_id": user,
	}).SignedString(jwtSecret) // fails only with a wrong type of key
	return token
}

// usersOf returns a verifier of such JWTs.
func usersOf(send bool) func(ctx context.Context, token string) (*auth.Caller, error) {
	return auth.NewVerifier(auth.UserConfig{Secret: jwtSecret, Send: send}).Verify
}

// newScoped returns a new secret with its token.
func newScoped(c auth.Caller) (secret string, token auth.ScopedToken) {
	secret = auth.NewSecret()
	hash, _ := auth.ParseHash(auth.HashOf(secret))
	return secret, auth.ScopedToken{Hash: hash, Caller: &c}
}

// need is a route with the scope that it needs. own is true if a token may have the scope
// for some users only; the user of the request is 789.
type need struct {
	method, path, body string
	scope              auth.Scope
	own                bool
}

// needs lists every route.
var needs = []need{
	{"POST", "/api/messages/send", `{"conversation_id":1,"sender_id":789,"receiver_id":5,"text":"x"}`, auth.Send, false},
	{"POST", "/api/messages/broadcast", `{"user_ids":[1],"message":{"sender_id":789,"text":"x"}}`, auth.Send, false},
	{"POST", "/api/messages/batch", `{"messages":[{"conversation_id":1,"sender_id":789,"receiver_id":5,"text":"x"}]}`, auth.Send, false},
	{"GET", "/api/messages/queue/789", "", auth.Take, true},
	{"GET", "/api/messages/queue/789?lease=5", "", auth.Take, true},
	{"GET", "/api/messages/queue/789?peek=false", "", auth.Take, true},
	{"GET", "/api/messages/queue/789?peek=true", "", auth.Peek, true},
	{"GET", "/api/messages/queue/789?p%65ek=true", "", auth.Peek, true},
	{"GET", "/api/messages/queue/789/size", "", auth.Peek, true},
	{"DELETE", "/api/messages/queue/789", "", auth.Take, true},
	{"POST", "/api/messages/ack", `{"user_id":789,"receipts":["x"]}`, auth.Take, true},
	{"POST", "/api/messages/nack", `{"user_id":"789","receipts":["x"]}`, auth.Take, true},
	{"POST", "/api/messages/extend", `{"user_id":789,"lease":5,"receipts":["x"]}`, auth.Take, true},
	{"GET", "/api/stats", "", auth.Operate, false},
	{"GET", "/api/dead-letters", "", auth.Operate, false},
	{"GET", "/api/dead-letters/refused-01a20b45-1895-76bd-b871-3ccb78a69ece", "", auth.Operate, false},
	{"DELETE", "/api/dead-letters/refused-01a20b45-1895-76bd-b871-3ccb78a69ece", "", auth.Operate, false},
	{"POST", "/api/dead-letters/redrive", `{"all":true}`, auth.Operate, false},
	{"POST", "/api/replay", `{"from_sequence":1}`, auth.Operate, false},
	{"GET", "/api/jobs", "", auth.Operate, false},
	{"GET", "/api/jobs/x", "", auth.Operate, false},
	{"DELETE", "/api/jobs/x", "", auth.Operate, false},
	{"GET", "/metrics", "", auth.Metrics, false},
	{"GET", "/openapi.json", "", auth.AnyCall, false},
}

// TestEveryRouteNeedsItsScope calls every route with a token of every scope, for its own
// user and for another one.
func TestEveryRouteNeedsItsScope(t *testing.T) {
	const own, foreign = "own", "foreign"
	scopes := []auth.Scope{auth.Send, auth.Take, auth.Peek, auth.Follow, auth.Operate, auth.Metrics, auth.Everything}
	access := auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}, ScopedTokens: true})
	secrets := make(map[string]string)
	var tokens []auth.ScopedToken
	for _, scope := range scopes {
		for users, patterns := range map[string][]auth.Pattern{"all": nil, own: {"1", "78*"}, foreign: {"790", "7890*", "88"}} {
			secret, token := newScoped(auth.Caller{Name: scope.String() + users, Scope: scope, Take: patterns, Peek: patterns, Follow: patterns})
			secrets[scope.String()+users] = secret
			tokens = append(tokens, token)
		}
	}
	access.SetScoped(tokens)
	s := serve(t, rest.Config{Access: access})
	s.backend.Jobs = idleJobs{}
	s.server.Open(s.backend)

	for _, route := range needs {
		for _, scope := range scopes {
			for _, users := range []string{"all", own, foreign} {
				got := s.raw(route.method, route.path, route.body, map[string]string{"Authorization": "Bearer " + secrets[scope.String()+users]})
				allowed := scope&route.scope != 0 && (!route.own || users != foreign)
				if forbidden := got.status == http.StatusForbidden; forbidden == allowed || (!allowed && !strings.Contains(got.text, `"code":"forbidden"`)) {
					t.Errorf("%s %s with the scope %s for %s users: %d %s, want allowed %t", route.method, route.path, scope, users, got.status, got.text, allowed)
				}
			}
		}
	}
	variable := regexp.MustCompile(`\{[^}]*\}`)
	for operation := range describe(t).operations() {
		route := regexp.MustCompile("^" + variable.ReplaceAllString(operation, "[^/?]+") + `(\?.*)?$`)
		isThere := slices.ContainsFunc(needs, func(n need) bool { return route.MatchString(n.method + " " + n.path) })
		if !isThere && !strings.Contains(operation, "/health") {
			t.Errorf("the table does not have %s", operation)
		}
	}
}

// TestUsersHaveTheirOwnQueue calls every route with the JWT of the user and of another one.
func TestUsersHaveTheirOwnQueue(t *testing.T) {
	for _, send := range []bool{false, true} {
		s := serve(t, rest.Config{Access: auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}, Users: usersOf(send)})})
		for _, route := range needs {
			for user, isOwn := range map[string]bool{"789": true, "790": false} {
				got := s.raw(route.method, route.path, route.body, map[string]string{"Authorization": "Bearer " + jwtOf(user)})
				allowed := (route.own && isOwn) || route.scope == auth.AnyCall || (send && isOwn && route.path == "/api/messages/send")
				if forbidden := got.status == http.StatusForbidden; forbidden == allowed {
					t.Errorf("JWT_SEND %t, %s %s by %s: %d %s, want allowed %t", send, route.method, route.path, user, got.status, got.text, allowed)
				}
			}
		}
	}
}

// The receipt of one user is unknown for another.
func TestReceiptOfAnotherUserIsUnknown(t *testing.T) {
	s := serve(t, rest.Config{Access: auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}, Users: usersOf(false)})})
	s.do("POST", "/api/messages/send", message)
	got := s.raw("GET", "/api/messages/queue/789?lease=30", "", map[string]string{"Authorization": "Bearer " + jwtOf("789")})
	var taken struct{ Messages []struct{ Receipt string } }
	if err := json.Unmarshal([]byte(got.text), &taken); err != nil || len(taken.Messages) != 1 {
		t.Fatalf("%v %s", err, got.text)
	}
	for _, c := range []struct{ user, want string }{{"790", `"unknown"`}, {"789", `"acked"`}} {
		body := `{"user_id":` + c.user + `,"receipts":["` + taken.Messages[0].Receipt + `"]}`
		got := s.raw("POST", "/api/messages/ack", body, map[string]string{"Authorization": "Bearer " + jwtOf(c.user)})
		if !strings.Contains(got.text, c.want) {
			t.Errorf("by %s: %s, want %s", c.user, got.text, c.want)
		}
	}
}

func TestTokensAreReplacedWhileServing(t *testing.T) {
	access := auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}, ScopedTokens: true})
	s := serve(t, rest.Config{Access: access})
	first, one := newScoped(auth.Caller{Name: "one", Scope: auth.Operate})
	second, two := newScoped(auth.Caller{Name: "two", Scope: auth.Operate})
	reader, reads := newScoped(auth.Caller{Name: "reader", Scope: auth.Take})
	access.SetScoped([]auth.ScopedToken{reads})
	poll := s.openWith("GET /api/messages/queue/789?wait=20 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + reader + "\r\n\r\n")
	eventually(t, func() bool { return s.engine.Stats().Waiting == 1 })
	_, gone := newScoped(auth.Caller{Name: "gone", Scope: auth.Operate, Expires: time.Now().Add(-time.Second)})
	for i, step := range []struct {
		tokens      []auth.ScopedToken
		first, next int
	}{{nil, 401, 401}, {[]auth.ScopedToken{one, gone}, 200, 401}, {[]auth.ScopedToken{two}, 401, 200}} {
		access.SetScoped(step.tokens)
		for secret, want := range map[string]int{first: step.first, second: step.next} {
			if got := s.raw("GET", "/api/stats", "", map[string]string{"Authorization": "Bearer " + secret}); got.status != want {
				t.Errorf("step %d: %d, want %d", i, got.status, want)
			}
		}
	}
	// A request in progress is answered, though its token is gone.
	s.do("POST", "/api/messages/send", message)
	answer, err := http.ReadResponse(bufio.NewReader(poll), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK || !strings.Contains(string(text), `"count":1`) {
		t.Errorf("the long poll: %d %s", answer.StatusCode, text)
	}
}

// idleJobs has no jobs, and starts none.
type idleJobs struct{}

func (idleJobs) Redrive(messaging.RedriveRequest) (messaging.Job, error) {
	return messaging.Job{ID: "x"}, nil
}

func (idleJobs) Replay(messaging.ReplayRequest) (messaging.Job, error) {
	return messaging.Job{ID: "x"}, nil
}
func (idleJobs) ListJobs() ([]messaging.Job, error)          { return nil, nil }
func (idleJobs) FindJob(string) (messaging.Job, bool, error) { return messaging.Job{}, false, nil }

func (idleJobs) CancelJob(string) (messaging.Job, bool, error) { return messaging.Job{}, false, nil }
