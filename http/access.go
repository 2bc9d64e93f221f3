package http

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/stayafrica/messaging"
)

// access decides who may call.
type access struct {
	tokens   [][sha256.Size]byte
	names    []string // of tokens
	metrics  [][sha256.Size]byte
	hosts    map[string]bool
	loopback bool
}

func newAccess(c *Config) access {
	a := access{loopback: c.LoopbackOnly}
	for _, t := range c.Tokens {
		a.tokens = append(a.tokens, sha256.Sum256([]byte(t.Secret)))
		a.names = append(a.names, t.Name)
	}
	a.metrics = a.tokens
	if c.MetricsToken != "" {
		a.metrics = append(slices.Clip(a.metrics), sha256.Sum256([]byte(c.MetricsToken)))
	}
	if len(c.AllowedHosts) > 0 {
		a.hosts = make(map[string]bool)
		for _, h := range c.AllowedHosts {
			a.hosts[strings.ToLower(h)] = true
		}
	}
	return a
}

// check refuses a foreign name, a foreign page and a missing token, in this
// order.
func (a *access) check(r *http.Request, metrics bool) error {
	if err := a.checkHost(r.Host); err != nil {
		return err
	}
	allowed := a.tokens
	if metrics {
		allowed = a.metrics
	}
	if len(allowed) == 0 {
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			return messaging.Errorf(messaging.CodeForbidden, "a web page of another site may not call this service")
		}
		return nil
	}
	if !matches(bearer(r.Header.Get("Authorization")), allowed) {
		return messaging.Errorf(messaging.CodeUnauthorized, "a valid token is needed: send it as Authorization: Bearer <token>")
	}
	return nil
}

func (a *access) checkHost(host string) error {
	if a.hosts == nil && !a.loopback {
		return nil
	}
	name := hostName(host)
	if a.hosts[name] || (a.loopback && isLoopback(name)) {
		return nil
	}
	if a.hosts != nil {
		return messaging.Errorf(messaging.CodeMisdirected, "the service does not answer under this name: see ALLOWED_HOSTS")
	}
	return messaging.Errorf(messaging.CodeForbidden, "without tokens the service answers to localhost only: see API_TOKENS and ALLOWED_HOSTS")
}

// hostName gives the name in a Host header, without port and brackets.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

func isLoopback(name string) bool {
	if name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.IsLoopback()
}

// bearer gives the token of an Authorization header, in either of the schemes
// that clients of Django use.
func bearer(header string) string {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || (!strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "Token")) {
		return ""
	}
	return strings.TrimSpace(token)
}

// caller names the token that a request came with; without tokens all callers
// are one.
func (a *access) caller(r *http.Request) string {
	sum := sha256.Sum256([]byte(bearer(r.Header.Get("Authorization"))))
	for i := range a.tokens {
		if subtle.ConstantTimeCompare(sum[:], a.tokens[i][:]) == 1 {
			return a.names[i]
		}
	}
	return ""
}

// matches compares with every token, in a time that says nothing about any.
func matches(token string, allowed [][sha256.Size]byte) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range allowed {
		found |= subtle.ConstantTimeCompare(sum[:], allowed[i][:])
	}
	return found == 1 && token != ""
}
