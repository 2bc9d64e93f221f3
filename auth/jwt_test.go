package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
)

var (
	jwtSecret   = []byte("a secret of the Django backend")
	jwtNow      = time.Unix(1_800_000_000, 0)
	rsaKey, _   = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _    = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
)

// signed returns a JWT. key is nil for the secret.
func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	if key == nil {
		key = jwtSecret
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// claims returns claims of SimpleJWT's access tokens, changed by pairs. A nil value removes
// a claim.
func claims(pairs ...any) jwt.MapClaims {
	c := jwt.MapClaims{"token_type": "access", "exp": jwtNow.Add(5 * time.Minute).Unix(), "iat": jwtNow.Unix(), "jti": "x", "user_id": 789}
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if c[name] = pairs[i+1]; pairs[i+1] == nil {
			delete(c, name)
		}
	}
	return c
}

func pemOf(t *testing.T, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func userConfig(t *testing.T) auth.UserConfig {
	t.Helper()
	keys, err := auth.ParseKeys([]byte(pemOf(t, &rsaKey.PublicKey) + pemOf(t, &ecKey.PublicKey) + pemOf(t, edKey.Public())))
	if err != nil {
		t.Fatal(err)
	}
	return auth.UserConfig{Secret: jwtSecret, Keys: keys, Leeway: 10 * time.Second, Now: func() time.Time { return jwtNow }}
}

func TestJWTs(t *testing.T) {
	plain := userConfig(t)
	bound := userConfig(t)
	bound.Issuer, bound.Audience, bound.UserClaim = "backend", "messaging", "uid"
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	publicPEM := pemOf(t, &rsaKey.PublicKey)
	for _, c := range []struct {
		name   string
		config auth.UserConfig
		token  string
		user   messaging.UserID // empty if it is refused
		failed bool             // it may be a guess
	}{
		{"SimpleJWT with a number", plain, signed(t, jwt.SigningMethodHS256, nil, claims()), "789", false},
		{"SimpleJWT with a string", plain, signed(t, jwt.SigningMethodHS256, nil, claims("user_id", "789")), "789", false},
		{"a UUID in sub", plain, signed(t, jwt.SigningMethodHS256, nil, claims("user_id", nil, "sub", "6f9d2f3c-9d3b-4e5b-8a93-6b4f0e2a1c77")), "6f9d2f3c-9d3b-4e5b-8a93-6b4f0e2a1c77", false},
		{"no token_type", plain, signed(t, jwt.SigningMethodHS256, nil, claims("token_type", nil)), "789", false},
		{"RS256", plain, signed(t, jwt.SigningMethodRS256, rsaKey, claims()), "789", false},
		{"ES256", plain, signed(t, jwt.SigningMethodES256, ecKey, claims()), "789", false},
		{"EdDSA", plain, signed(t, jwt.SigningMethodEdDSA, edKey, claims()), "789", false},
		{"a large number", plain, signed(t, jwt.SigningMethodHS256, nil, claims("user_id", json.Number("9007199254740993"))), "9007199254740993", false},
		{"expired within the leeway", plain, signed(t, jwt.SigningMethodHS256, nil, claims("exp", jwtNow.Add(-9*time.Second).Unix())), "789", false},
		{"issuer, audience and claim", bound, signed(t, jwt.SigningMethodHS256, nil, claims("iss", "backend", "aud", []string{"web", "messaging"}, "uid", "u1")), "u1", false},

		{"a refresh token", plain, signed(t, jwt.SigningMethodHS256, nil, claims("token_type", "refresh")), "", false},
		{"a token_type that is no text", plain, signed(t, jwt.SigningMethodHS256, nil, claims("token_type", 1)), "", false},
		{"expired", plain, signed(t, jwt.SigningMethodHS256, nil, claims("exp", jwtNow.Add(-11*time.Second).Unix())), "", false},
		{"no exp", plain, signed(t, jwt.SigningMethodHS256, nil, claims("exp", nil)), "", false},
		{"not valid yet", plain, signed(t, jwt.SigningMethodHS256, nil, claims("nbf", jwtNow.Add(time.Minute).Unix())), "", false},
		{"no user", plain, signed(t, jwt.SigningMethodHS256, nil, claims("user_id", nil)), "", false},
		{"a fraction as user", plain, signed(t, jwt.SigningMethodHS256, nil, claims("user_id", 1.5)), "", false},
		{"a user that is no id", plain, signed(t, jwt.SigningMethodHS256, nil, claims("user_id", "a/b")), "", false},
		{"another issuer", bound, signed(t, jwt.SigningMethodHS256, nil, claims("iss", "other", "aud", "messaging", "uid", "u1")), "", false},
		{"another audience", bound, signed(t, jwt.SigningMethodHS256, nil, claims("iss", "backend", "aud", "other", "uid", "u1")), "", false},
		{"no audience", bound, signed(t, jwt.SigningMethodHS256, nil, claims("iss", "backend", "uid", "u1")), "", false},
		{"the user only in another claim", bound, signed(t, jwt.SigningMethodHS256, nil, claims("iss", "backend", "aud", "messaging")), "", false},

		{"another secret", plain, signed(t, jwt.SigningMethodHS256, []byte("another secret"), claims()), "", true},
		{"another key", plain, signed(t, jwt.SigningMethodRS256, other, claims()), "", true},
		{"no algorithm", plain, signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), "", true},
		{"a public key as the secret", plain, signed(t, jwt.SigningMethodHS256, []byte(publicPEM), claims()), "", true},
		{"another hash", plain, signed(t, jwt.SigningMethodHS512, nil, claims()), "", true},
		{"another RSA scheme", plain, signed(t, jwt.SigningMethodPS256, rsaKey, claims()), "", true},
		{"a changed payload", plain, tampered(signed(t, jwt.SigningMethodHS256, nil, claims())), "", true},
		{"nonsense", plain, "ey.ey.ey", "", true},
	} {
		caller, err := auth.NewVerifier(c.config).Verify(t.Context(), c.token)
		if c.user == "" {
			if messaging.CodeOf(err) != messaging.CodeUnauthorized || auth.IsFailedLogin(err) != c.failed {
				t.Errorf("%s: %+v, %v (may be a guess: %t), want a refusal, %t", c.name, caller, err, auth.IsFailedLogin(err), c.failed)
			}
			continue
		}
		if err != nil || caller.User != c.user || caller.ID() != "user:"+string(c.user) {
			t.Errorf("%s: %+v, %v; want the user %s", c.name, caller, err, c.user)
		}
	}
}

func tampered(token string) string {
	head, rest, _ := strings.Cut(token, ".")
	return head + "." + strings.Replace(rest, "a", "b", 1)
}

// A user has its own queue only. It may send if that is configured, as itself.
func TestWhatAUserMayDo(t *testing.T) {
	config := userConfig(t)
	for _, send := range []bool{false, true} {
		config.Send, config.Limits = send, auth.Limits{LongPolls: 3}
		caller, err := auth.NewVerifier(config).Verify(t.Context(), signed(t, jwt.SigningMethodHS256, nil, claims()))
		if err != nil {
			t.Fatal(err)
		}
		if caller.Limits != config.Limits {
			t.Errorf("the limits are %+v", caller.Limits)
		}
		for _, scope := range []auth.Scope{auth.Take, auth.Peek, auth.Follow} {
			if err := caller.MayFor(scope, "789"); err != nil {
				t.Errorf("%s of its own queue: %v", scope, err)
			}
			for _, foreign := range []messaging.UserID{"790", "7890", "78"} {
				if err := caller.MayFor(scope, foreign); messaging.CodeOf(err) != messaging.CodeForbidden {
					t.Errorf("%s of the queue of %s: %v", scope, foreign, err)
				}
			}
		}
		for _, scope := range []auth.Scope{auth.Operate, auth.Metrics} {
			if caller.May(scope) == nil {
				t.Errorf("a user may %s", scope)
			}
		}
		own, foreign := &messaging.Draft{Sender: "789"}, &messaging.Draft{Sender: "790"}
		unstored := &messaging.Draft{Sender: "789", NoPersist: true}
		if err := caller.MaySend(own); (err == nil) != send {
			t.Errorf("JWT_SEND %t: a send: %v", send, err)
		}
		for _, err := range []error{caller.MaySend(foreign), caller.MaySend(unstored), caller.MaySendMany()} {
			if messaging.CodeOf(err) != messaging.CodeForbidden {
				t.Errorf("JWT_SEND %t: %v, want forbidden", send, err)
			}
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	curve, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	private, _ := x509.MarshalPKCS8PrivateKey(rsaKey)
	for name, text := range map[string]string{
		"empty": "", "no PEM": "x", "a private key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"another block": string(pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS"})),
		"another curve": pemOf(t, &curve.PublicKey), "damaged": strings.Replace(pemOf(t, &rsaKey.PublicKey), "A", "B", 3),
		"many": strings.Repeat(pemOf(t, edKey.Public()), 17),
	} {
		if keys, err := auth.ParseKeys([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
	if short != nil {
		if _, err := auth.ParseKeys([]byte(pemOf(t, &short.PublicKey))); err == nil {
			t.Error("an RSA key of 1024 bits is accepted")
		}
	}
}

// keySetServer serves a key set that can be changed.
func keySetServer(t *testing.T) (server *httptest.Server, keys *atomic.Value, reads *atomic.Int64) {
	t.Helper()
	keys, reads = new(atomic.Value), new(atomic.Int64)
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reads.Add(1)
		text, _ := keys.Load().(string)
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	return server, keys, reads
}

func jwks(t *testing.T, of map[string]any) string {
	t.Helper()
	set := jwkset.NewMemoryStorage()
	for id, public := range of {
		key, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id}})
		if err != nil {
			t.Fatal(err)
		}
		if err := set.KeyWrite(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	text, err := set.JSONPublic(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKeySet(t *testing.T) {
	server, keys, reads := keySetServer(t)
	keys.Store(jwks(t, map[string]any{"one": &rsaKey.PublicKey}))
	set, err := auth.NewKeySet(t.Context(), auth.KeySetConfig{URL: server.URL, Transport: server.Client().Transport, Failed: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	v := auth.NewVerifier(auth.UserConfig{KeySet: set, Now: func() time.Time { return jwtNow }})
	for _, c := range []struct {
		name  string
		token string
		ok    bool
	}{
		{"a key by its id", signed(t, jwt.SigningMethodRS256, rsaKey, claims(), "kid", "one"), true},
		{"a key without an id", signed(t, jwt.SigningMethodRS256, rsaKey, claims()), true},
		{"the secret algorithm with a public key", signed(t, jwt.SigningMethodHS256, []byte(pemOf(t, &rsaKey.PublicKey)), claims(), "kid", "one"), false},
		{"another algorithm under the id", signed(t, jwt.SigningMethodES256, ecKey, claims(), "kid", "one"), false},
	} {
		if _, err := v.Verify(t.Context(), c.token); (err == nil) != c.ok {
			t.Errorf("%s: %v, want accepted %t", c.name, err, c.ok)
		}
	}
	// A new key is found when a token names it. A flood of unknown ids reads nothing more.
	keys.Store(jwks(t, map[string]any{"two": &ecKey.PublicKey}))
	if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodES256, ecKey, claims(), "kid", "two")); err != nil {
		t.Errorf("a new key: %v", err)
	}
	before := reads.Load()
	for range 50 {
		if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodES256, ecKey, claims(), "kid", "three")); err == nil {
			t.Error("an unknown id is accepted")
		}
	}
	if n := reads.Load() - before; n > 1 {
		t.Errorf("50 unknown ids read the key set %d times", n)
	}
}

// A key set that redirects, fails or is too large leaves no keys, and is reported.
func TestKeySetThatFails(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) },
		"fails":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"is large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(" ", 1<<20) + `]}`))
		},
		"is HTML": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		server := httptest.NewTLSServer(answer)
		failed := make(chan error, 1)
		set, err := auth.NewKeySet(t.Context(), auth.KeySetConfig{URL: server.URL, Transport: server.Client().Transport, Failed: func(err error) { failed <- err }})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-failed:
		default:
			t.Errorf("%s: no failure is reported", name)
		}
		v := auth.NewVerifier(auth.UserConfig{KeySet: set, Now: func() time.Time { return jwtNow }})
		if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodRS256, rsaKey, claims())); err == nil {
			t.Errorf("%s: a token is accepted", name)
		}
		server.Close()
	}
}

func BenchmarkVerify(b *testing.B) {
	token, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, claims()).SignedString(jwtSecret)
	v := auth.NewVerifier(auth.UserConfig{Secret: jwtSecret, Now: func() time.Time { return jwtNow }})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
