package main

import (
	"time"

	"github.com/stayafrica/messaging/auth"
)

// AccessConfig holds the settings of who may call, and how.
type AccessConfig struct {
	Tokens         []auth.Token
	TokensFile     string
	MetricsToken   string
	AllowAnonymous bool
	AllowedHosts   []string
	TrustedProxies auth.Proxies
	// Short names the secrets that are accepted, but shorter than they should be.
	Short []string

	JWTSecret, JWTKeysFile, JWTKeySetURL        string
	JWTIssuer, JWTAudience, JWTUserClaim        string
	JWTLeeway                                   time.Duration
	JWTSend                                     bool
	JWTSendTo                                   string
	AuditLog                                    string
	AuditMessages                               bool
	TLSCert, TLSKey, TLSClientCA, TLSMin        string
	DjangoCA, DjangoClientCert, DjangoClientKey string
}

// isClosed reports whether every call needs a token, a JWT or a certificate.
func (a *AccessConfig) isClosed() bool {
	return len(a.Tokens) > 0 || a.TokensFile != "" || a.hasJWT() || a.TLSClientCA != ""
}

func (a *AccessConfig) hasJWT() bool {
	return a.JWTSecret != "" || a.JWTKeysFile != "" || a.JWTKeySetURL != ""
}

// check checks settings that depend on each other.
func (a *AccessConfig) check() error {
	switch {
	case (a.TLSCert == "") != (a.TLSKey == ""):
		return usagef("TLS_CERT and TLS_KEY belong together: set both, or none")
	case a.TLSClientCA != "" && a.TLSCert == "":
		return usagef("TLS_CLIENT_CA needs TLS_CERT and TLS_KEY: without them the service does not use TLS")
	case (a.DjangoClientCert == "") != (a.DjangoClientKey == ""):
		return usagef("DJANGO_CLIENT_CERT and DJANGO_CLIENT_KEY belong together: set both, or none")
	case a.AuditMessages && a.AuditLog == "":
		return usagef("AUDIT_MESSAGES needs AUDIT_LOG: set it to stderr, or to a file")
	case a.JWTSend && !a.hasJWT():
		return usagef("JWT_SEND needs JWT_SECRET, JWT_KEYS_FILE or JWT_JWKS_URL: without them no JWT is accepted")
	case a.JWTSend && a.JWTSendTo == "":
		return usagef("JWT_SEND needs JWT_SEND_TO=any: users may then send to any user")
	}
	for _, t := range a.Tokens {
		if t.Secret == a.MetricsToken {
			return usagef("METRICS_TOKEN is also a token of API_TOKENS: each needs its own")
		}
	}
	return nil
}

// accessSettings are the rows of the settings table for access.
var accessSettings = []setting{
	{
		key: "api_tokens", secret: true, help: "tokens of callers that may do everything: name:token, comma separated",
		set: tokens,
	},
	{
		key: "tokens_file", help: "file (YAML) of tokens that may do less, made by messaging tokens new; it is loaded again when it changes",
		set: text(func(c *Config) *string { return &c.Access.TokensFile }),
	},
	{
		key: "metrics_token", secret: true, help: "token that allows only /metrics",
		set: sharedSecret("METRICS_TOKEN", func(c *Config) *string { return &c.Access.MetricsToken }),
	},
	{
		key: "allow_anonymous", fallback: "false", help: "allow calls without tokens on addresses other than loopback",
		onOff: true, set: boolean(func(c *Config) *bool { return &c.Access.AllowAnonymous }),
	},
	{
		key: "allowed_hosts", help: "host names under which the service may be called, comma separated",
		set: hosts,
	},
	{
		key: "trusted_proxies", help: "addresses or networks of the reverse proxies whose X-Forwarded-For names the client, comma separated",
		set: proxies,
	},
	{
		key: "jwt_secret", secret: true, help: "secret of the users' JWTs that are signed with HS256, such as Django's SECRET_KEY for SimpleJWT",
		set: jwtSecret,
	},
	{
		key: "jwt_keys_file", help: "file with public keys (PEM) of the users' JWTs: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA; it is loaded again when it changes",
		set: text(func(c *Config) *string { return &c.Access.JWTKeysFile }),
	},
	{
		key: "jwt_jwks_url", help: "https address of a key set (JWKS) with public keys of the users' JWTs",
		set: keySetURL,
	},
	{
		key: "jwt_issuer", help: "what the claim iss of a JWT must be; empty accepts all",
		set: text(func(c *Config) *string { return &c.Access.JWTIssuer }),
	},
	{
		key: "jwt_audience", help: "what the claim aud of a JWT must have; empty accepts all",
		set: text(func(c *Config) *string { return &c.Access.JWTAudience }),
	},
	{
		key: "jwt_user_claim", help: "claim of a JWT with the user id; by default user_id, or sub in a JWT without one",
		set: text(func(c *Config) *string { return &c.Access.JWTUserClaim }),
	},
	{
		key: "jwt_leeway", fallback: "10s", help: "accepted difference between the clocks of the issuer of JWTs and of the service",
		unit: time.Second, set: duration(0, 10*time.Minute, func(c *Config) *time.Duration { return &c.Access.JWTLeeway }),
	},
	{
		key: "jwt_send", fallback: "false", help: "allow users to send messages as themselves with their JWT",
		onOff: true, set: boolean(func(c *Config) *bool { return &c.Access.JWTSend }),
	},
	{
		key: "jwt_send_to", help: "any allows users to send to every user",
		set: oneOf(func(c *Config) *string { return &c.Access.JWTSendTo }, "", "any"),
	},
	{
		key: "audit_log", help: "where the audit log is written: stderr or a file; empty for none",
		set: text(func(c *Config) *string { return &c.Access.AuditLog }),
	},
	{
		key: "audit_messages", fallback: "false", help: "also write sends and reads of messages to the audit log",
		onOff: true, set: boolean(func(c *Config) *bool { return &c.Access.AuditMessages }),
	},
	{
		key: keyTLSCert, help: "file with the certificate chain (PEM) of the service; with it the port speaks TLS only; it is loaded again when it changes",
		set: text(func(c *Config) *string { return &c.Access.TLSCert }),
	},
	{
		key: "tls_key", help: "file with the private key (PEM) of TLS_CERT",
		set: text(func(c *Config) *string { return &c.Access.TLSKey }),
	},
	{
		key: "tls_client_ca", help: "file with the authorities (PEM) whose client certificates may call; the name in the certificate is the caller",
		set: text(func(c *Config) *string { return &c.Access.TLSClientCA }),
	},
	{
		key: "tls_min", fallback: "1.2", help: "lowest version of TLS",
		set: oneOf(func(c *Config) *string { return &c.Access.TLSMin }, "1.2", "1.3"),
	},
	{
		key: "django_ca", help: "file with the authorities (PEM) that the backend's certificate is checked with, instead of the system's",
		set: text(func(c *Config) *string { return &c.Access.DjangoCA }),
	},
	{
		key: "django_client_cert", help: "file with the certificate chain (PEM) that the service shows to the backend",
		set: text(func(c *Config) *string { return &c.Access.DjangoClientCert }),
	},
	{
		key: "django_client_key", help: "file with the private key (PEM) of DJANGO_CLIENT_CERT",
		set: text(func(c *Config) *string { return &c.Access.DjangoClientKey }),
	},
}
