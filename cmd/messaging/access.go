package main

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/stayafrica/messaging/auth"
)

// access is the access control of a running service, with the files that it is loaded
// from.
type access struct {
	config  *AccessConfig
	logger  *slog.Logger
	control *auth.Access
	users   *userKeys // nil without JWTs
	tls     *tlsFiles // nil without TLS
	audit   *auditLog // nil for none
}

// openAccess loads the files of the configuration. Reads of a key set end with ctx.
func openAccess(ctx context.Context, c *Config, audit *auditLog, logger *slog.Logger) (a *access, err error) {
	of := &c.Access
	a = &access{config: of, logger: logger, audit: audit}
	if of.hasJWT() {
		if a.users, err = openUserKeys(ctx, of, logger); err != nil {
			return nil, err
		}
	}
	if of.TLSCert != "" {
		if a.tls, err = openTLS(of); err != nil {
			return nil, err
		}
	}
	config := auth.Config{
		Tokens: of.Tokens, MetricsToken: of.MetricsToken, ScopedTokens: of.TokensFile != "", Certificates: of.TLSClientCA != "",
		AllowedHosts: of.AllowedHosts, LoopbackOnly: !of.isClosed() && c.loopback(),
	}
	if a.users != nil {
		config.Users = a.users.verify
	}
	a.control = auth.New(config)
	if of.TokensFile != "" {
		err = a.loadTokens()
	}
	return a, err
}

func (a *access) loadTokens() error {
	tokens, err := loadTokensFile(a.config.TokensFile, a.config.Tokens)
	if err != nil {
		return err
	}
	a.control.SetScoped(tokens)
	return nil
}

// watch registers the files with a reloader.
func (a *access) watch(r *reloader) {
	of := a.config
	if of.TokensFile != "" {
		r.add("TOKENS_FILE", a.loadTokens, of.TokensFile)
	}
	if of.JWTKeysFile != "" {
		r.add("JWT_KEYS_FILE", a.users.load, of.JWTKeysFile)
	}
	if a.tls != nil {
		r.add("TLS_CERT", a.tls.load, of.TLSCert, of.TLSKey)
		if of.TLSClientCA != "" {
			r.add("TLS_CLIENT_CA", a.tls.loadClientCA, of.TLSClientCA)
		}
	}
}

// warn logs what a later release refuses.
func (a *access) warn(ctx context.Context) {
	for _, name := range a.config.Short {
		a.logger.WarnContext(ctx, "a secret is shorter than 16 characters: the next release refuses it ("+makeSecret+")", "setting", name)
	}
}

// userKeys verifies the JWTs of users with the keys of the configuration.
type userKeys struct {
	config   *AccessConfig
	set      *auth.KeySet
	verifier atomic.Pointer[auth.Verifier]
}

// userLimits bound what one user may hold, so that no user can use up what all share.
var userLimits = auth.Limits{RequestsPerSecond: 50, Connections: 64, LongPolls: 16, Leases: 1000, BodyBytes: 8 << 20}

func openUserKeys(ctx context.Context, of *AccessConfig, logger *slog.Logger) (*userKeys, error) {
	k := &userKeys{config: of}
	if of.JWTKeySetURL != "" {
		var err error
		k.set, err = auth.NewKeySet(ctx, auth.KeySetConfig{URL: of.JWTKeySetURL, Failed: func(err error) {
			logger.WarnContext(ctx, "the key set of JWT_JWKS_URL cannot be read: the last keys stay in force", "error", err)
		}})
		if err != nil {
			return nil, usagef("JWT_JWKS_URL %q cannot be used: %s", of.JWTKeySetURL, err.Error())
		}
	}
	return k, k.load()
}

// load reads the keys of JWT_KEYS_FILE.
func (k *userKeys) load() error {
	of := k.config
	config := auth.UserConfig{
		Secret: []byte(of.JWTSecret), KeySet: k.set, Issuer: of.JWTIssuer, Audience: of.JWTAudience, UserClaim: of.JWTUserClaim,
		Leeway: of.JWTLeeway, Send: of.JWTSend, Limits: userLimits,
	}
	if of.JWTKeysFile != "" {
		text, err := os.ReadFile(of.JWTKeysFile)
		if err != nil {
			return usagef("JWT_KEYS_FILE %q cannot be read: %s", of.JWTKeysFile, fileFault(err))
		}
		if config.Keys, err = auth.ParseKeys(text); err != nil {
			return usagef("JWT_KEYS_FILE %q: %s", of.JWTKeysFile, err.Error())
		}
	}
	k.verifier.Store(auth.NewVerifier(config))
	return nil
}

// verify verifies a JWT with the keys in force.
func (k *userKeys) verify(ctx context.Context, token string) (*auth.Caller, error) {
	return k.verifier.Load().Verify(ctx, token) //nolint:wrapcheck // an API error
}
