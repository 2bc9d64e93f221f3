package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// Token is the secret of one caller with every scope. Logs and idempotency keys use the
// name; the secret is never written anywhere.
type Token struct{ Name, Secret string }

// Config is the configuration of [Access].
type Config struct {
	// Tokens allow every call; MetricsToken allows the metrics only.
	Tokens       []Token
	MetricsToken string
	// ScopedTokens is true if there is a tokens file: see [Access.SetScoped].
	ScopedTokens bool
	// Users verifies the JWTs of users, like [Verifier.Verify]; nil refuses all JWTs.
	Users func(ctx context.Context, token string) (*Caller, error)
	// Certificates is true if the transport verifies certificates of callers.
	Certificates bool
	// AllowedHosts are the host names of the service; LoopbackOnly adds the names of
	// loopback. All other names are refused. With neither, every name is allowed.
	AllowedHosts []string
	LoopbackOnly bool
	// Now is the wall clock (default time.Now).
	Now func() time.Time
}

// Call describes a call before its body is read. Fields that a transport does not have
// are empty.
type Call struct {
	// Host is the host name that the caller used, with or without a port.
	Host string
	// Authorization is the Authorization header.
	Authorization string
	// Certificate is the name in the verified certificate of the caller.
	Certificate string
	// Page describes the web page that makes the call, if a browser sends it.
	Page Page
	// Need is the kind of the call.
	Need Scope
	// Consumes is true for a take: a call that changes a queue and that a web page can
	// make without the permission of the service. A lease counts too: it hides messages
	// from their reader, and uses up their deliveries.
	Consumes bool
}

// ScopedToken is a token of a tokens file: the hash of its secret, or the name in a
// certificate, and its caller.
type ScopedToken struct {
	Hash        [sha256.Size]byte
	Certificate string // if set, there is no hash
	Caller      *Caller
}

// scoped is the content of a tokens file.
type scoped struct {
	byHash        map[[sha256.Size]byte]*Caller
	byCertificate map[string]*Caller
}

// Access decides which calls are allowed. Its methods are safe for concurrent use.
type Access struct {
	tokens       []hashed
	metrics      *hashed // METRICS_TOKEN
	scoped       atomic.Pointer[scoped]
	users        func(ctx context.Context, token string) (*Caller, error)
	closed       bool // every call needs a caller
	certificates bool
	hosts        map[string]bool
	loopback     bool
	now          func() time.Time
}

type hashed struct {
	sum    [sha256.Size]byte
	caller *Caller
}

// New returns an Access for a configuration.
func New(c Config) *Access {
	a := &Access{loopback: c.LoopbackOnly, users: c.Users, certificates: c.Certificates, now: c.Now}
	if a.now == nil {
		a.now = time.Now
	}
	a.scoped.Store(&scoped{})
	for _, t := range c.Tokens {
		a.tokens = append(a.tokens, hashed{sha256.Sum256([]byte(t.Secret)), &Caller{Name: t.Name, Scope: Everything}})
	}
	a.closed = len(c.Tokens) > 0 || c.ScopedTokens || c.Users != nil || c.Certificates
	if c.MetricsToken != "" {
		a.metrics = &hashed{sha256.Sum256([]byte(c.MetricsToken)), &Caller{Name: "METRICS_TOKEN", Scope: Metrics}}
	}
	if len(c.AllowedHosts) > 0 {
		a.hosts = make(map[string]bool)
		for _, h := range c.AllowedHosts {
			a.hosts[strings.ToLower(h)] = true
		}
	}
	return a
}

// SetScoped replaces the tokens of the tokens file. Calls that were accepted before are not
// affected.
func (a *Access) SetScoped(tokens []ScopedToken) {
	all := &scoped{make(map[[sha256.Size]byte]*Caller), make(map[string]*Caller)}
	for _, t := range tokens {
		if t.Certificate != "" {
			all.byCertificate[t.Certificate] = t.Caller
		} else {
			all.byHash[t.Hash] = t.Caller
		}
	}
	a.scoped.Store(all)
}

// Closed reports whether a call needs a token, a JWT or a certificate.
func (a *Access) Closed() bool { return a.closed }

// Check returns the caller of a call. It refuses, in this order, a host name that is not
// the service's, a missing or wrong token, a token without the scope of the call, and a
// web page of another site. The error is a [*messaging.Error]. If the caller presented
// something that is wrong, [IsFailedLogin] reports true for it.
func (a *Access) Check(ctx context.Context, c Call) (*Caller, error) {
	if err := a.checkHost(c.Host); err != nil {
		return nil, err
	}
	caller, ambient, err := a.identify(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := caller.May(c.Need); err != nil {
		return caller, err
	}
	if ambient {
		return caller, c.checkPage()
	}
	return caller, nil
}

// identify returns the caller of a call. ambient is true if a browser makes such a call
// without the page's knowledge of a secret: there are no tokens, or the browser has
// remembered a password or a certificate.
func (a *Access) identify(ctx context.Context, c Call) (caller *Caller, ambient bool, err error) {
	token, how := credentials(c.Authorization)
	if a.certificates && c.Certificate != "" && token == "" {
		caller, err := a.ofCertificate(c.Certificate)
		return caller, true, err
	}
	if caller := a.static(token, c.Need); caller != nil {
		return caller, how == basic, nil
	}
	if !a.closed && (a.metrics == nil || c.Need != Metrics) {
		return anonymous, true, nil
	}
	if token == "" {
		return nil, false, messaging.Errorf(messaging.CodeUnauthorized, "a valid token is needed: send it as Authorization: Bearer <token>")
	}
	if isSecret(token) {
		if caller, err := a.ofFile(token); caller != nil || err != nil {
			return caller, how == basic, err
		}
	} else if a.users != nil && isJWT(token) {
		caller, err := a.users(ctx, token)
		return caller, how == basic, err
	}
	return nil, false, failedLogin("the token is not known: send a valid one as Authorization: Bearer <token>")
}

// static returns the caller of one of API_TOKENS or of METRICS_TOKEN, or nil. It compares
// with every one in constant time, so the duration reveals nothing about them.
func (a *Access) static(token string, need Scope) (found *Caller) {
	if token == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	for i := range a.tokens {
		if subtle.ConstantTimeCompare(sum[:], a.tokens[i].sum[:]) == 1 {
			found = a.tokens[i].caller
		}
	}
	if m := a.metrics; m != nil && subtle.ConstantTimeCompare(sum[:], m.sum[:]) == 1 && (a.closed || need == Metrics) {
		found = cmp.Or(found, m.caller)
	}
	return found
}

// ofFile returns the caller of a secret of the tokens file, or nil.
func (a *Access) ofFile(token string) (*Caller, error) {
	caller := a.scoped.Load().byHash[sha256.Sum256([]byte(token))]
	if a.hasExpired(caller) {
		return nil, expiredLogin("this token has expired: make a new one with messaging tokens new")
	}
	return caller, nil
}

// ofCertificate returns the caller of a certificate that the transport has verified. If the
// tokens file names certificates, only those may call.
func (a *Access) ofCertificate(name string) (*Caller, error) {
	named := a.scoped.Load().byCertificate
	caller := named[name]
	switch {
	case len(named) == 0:
		return &Caller{Name: "certificate:" + name, Scope: Everything}, nil
	case caller == nil || a.hasExpired(caller):
		return nil, expiredLogin("the tokens file does not have this certificate, or it has expired there")
	}
	return caller, nil
}

func (a *Access) hasExpired(c *Caller) bool {
	return c != nil && !c.Expires.IsZero() && !a.now().Before(c.Expires)
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

// checkPage refuses a web page of another site. Without TLS, a browser does not describe
// the page to a server that is not loopback, so a take needs a header that such a page
// cannot send.
func (c *Call) checkPage() error {
	if c.Page.isForeign(c.Host) {
		return messaging.Errorf(messaging.CodeForbidden, "a web page of another site may not call this service")
	}
	if c.Consumes && c.Page.isHidden(c.Host) {
		return messaging.Errorf(messaging.CodeForbidden, "a take by a browser needs the header %s: 1, so that no other page can empty the queue", TakeHeader)
	}
	return nil
}
