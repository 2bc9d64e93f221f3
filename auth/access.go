package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"

	"github.com/stayafrica/messaging"
)

// Token is the secret of one caller. Logs and idempotency keys use the name; the
// secret is never written anywhere.
type Token struct{ Name, Secret string }

// Config is the configuration of [Access].
type Config struct {
	// Tokens allow every call; MetricsToken allows the metrics only.
	Tokens       []Token
	MetricsToken string
	// AllowedHosts are the host names of the service; LoopbackOnly adds the names of
	// loopback. All other names are refused. With neither, every name is allowed.
	AllowedHosts []string
	LoopbackOnly bool
}

// Call describes a call before its body is read. Fields that a transport does not have
// are empty.
type Call struct {
	// Host is the host name that the caller used, with or without a port.
	Host string
	// Authorization is the Authorization header.
	Authorization string
	// Page describes the web page that makes the call, if a browser sends it.
	Page Page
	// Metrics is true for a call that reads the metrics.
	Metrics bool
}

// Access decides which calls are allowed. Its methods are safe for concurrent use.
type Access struct {
	tokens   [][sha256.Size]byte
	names    []string // of tokens
	metrics  [][sha256.Size]byte
	hosts    map[string]bool
	loopback bool
}

// New returns an Access for a configuration.
func New(c Config) *Access {
	a := &Access{loopback: c.LoopbackOnly}
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

// Check refuses, in this order, a host name that is not the service's, a missing or
// wrong token, and a web page of another site. It checks the page only if no tokens are
// set or the token is a Basic password, because a browser sends a remembered password
// for any page. The error is a [*messaging.Error].
func (a *Access) Check(c Call) error {
	if err := a.checkHost(c.Host); err != nil {
		return err
	}
	allowed := a.tokens
	if c.Metrics {
		allowed = a.metrics
	}
	token, scheme := credentials(c.Authorization)
	if len(allowed) > 0 && !matches(token, allowed) {
		return messaging.Errorf(messaging.CodeUnauthorized, "a valid token is needed: send it as Authorization: Bearer <token>")
	}
	if (len(allowed) == 0 || scheme == basic) && c.Page.isForeign(c.Host) {
		return messaging.Errorf(messaging.CodeForbidden, "a web page of another site may not call this service")
	}
	return nil
}

func (a *Access) checkHost(host string) error {
	if a.hosts == nil && !a.loopback {
		return nil
	}
	name := hostName(host)
	if a.hosts[name] || (a.loopback && isLoopback(name)) {
		return nil
	}
	if a.hosts != nil {
		return messaging.Errorf(messaging.CodeMisdirected, "the service does not have this host name: see ALLOWED_HOSTS")
	}
	return messaging.Errorf(messaging.CodeForbidden, "without tokens the service allows only the host localhost: see API_TOKENS and ALLOWED_HOSTS")
}

// Caller returns the name of the token in an Authorization header, or "" if the header
// has no known token. Without tokens, all callers have the name "".
func (a *Access) Caller(authorization string) string {
	token, _ := credentials(authorization)
	sum := sha256.Sum256([]byte(token))
	for i := range a.tokens {
		if subtle.ConstantTimeCompare(sum[:], a.tokens[i][:]) == 1 {
			return a.names[i]
		}
	}
	return ""
}

// matches reports whether the token is allowed. It compares with every allowed token in
// constant time, so the duration reveals nothing about them.
func matches(token string, allowed [][sha256.Size]byte) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range allowed {
		found |= subtle.ConstantTimeCompare(sum[:], allowed[i][:])
	}
	return found == 1 && token != ""
}
