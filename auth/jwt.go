package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/stayafrica/messaging"
)

// UserConfig is the configuration of a [Verifier]. At least one of Secret, Keys and
// KeySet is set.
type UserConfig struct {
	// Secret verifies HS256.
	Secret []byte
	// Keys are public keys. Each verifies one algorithm: see [ParseKeys].
	Keys []Key
	// KeySet has more public keys; nil for none.
	KeySet *KeySet
	// Issuer and Audience are what the claims iss and aud must have; empty accepts all.
	Issuer, Audience string
	// UserClaim is the claim with the user. By default it is user_id, or sub in a token
	// without one.
	UserClaim string
	// Leeway is the accepted difference between the clocks of the issuer and the service.
	Leeway time.Duration
	// Send allows users to send single messages as themselves.
	Send bool
	// Limits bound what one user may hold.
	Limits Limits
	// Now is the wall clock (default time.Now).
	Now func() time.Time
}

// Key is a public key that verifies one algorithm of RFC 7518 or RFC 8037.
type Key struct {
	Algorithm string // RS256, ES256 or EdDSA
	Public    any
}

// Verifier verifies the JWTs of users (RFC 7519). It is safe for concurrent use.
//
// Each key verifies one algorithm. Without that rule, a public key could be used as the
// secret of HS256, and anyone could sign (RFC 8725, section 3.1).
type Verifier struct {
	config UserConfig
	parser *jwt.Parser
}

// maxJWT bounds the length of a JWT, in bytes.
const maxJWT = 8 << 10

// NewVerifier returns a verifier.
func NewVerifier(c UserConfig) *Verifier {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods(&c)), jwt.WithExpirationRequired(), jwt.WithLeeway(c.Leeway), jwt.WithJSONNumber(), jwt.WithStrictDecoding(),
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	if c.Now != nil {
		options = append(options, jwt.WithTimeFunc(c.Now))
	}
	return &Verifier{config: c, parser: jwt.NewParser(options...)}
}

// methods returns the algorithms that the keys verify. A key set may have keys of each
// algorithm with a public key.
func methods(c *UserConfig) (names []string) {
	if len(c.Secret) > 0 {
		names = append(names, "HS256")
	}
	for _, k := range c.Keys {
		names = append(names, k.Algorithm)
	}
	if c.KeySet != nil {
		names = append(names, "RS256", "ES256", "EdDSA")
	}
	return names
}

// isJWT reports whether a token has the form of a JWT. It decides how the token is
// verified, not whether it is accepted.
func isJWT(token string) bool {
	return len(token) <= maxJWT && strings.HasPrefix(token, "ey") && strings.Count(token, ".") == 2
}

// Verify returns the user of a JWT as a caller: it may read its own queue, and send as
// itself if that is allowed. The error is an unauthorized error without the token.
func (v *Verifier) Verify(ctx context.Context, token string) (*Caller, error) {
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return v.keys(ctx, t) })
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenMalformed), errors.Is(err, jwt.ErrTokenUnverifiable):
		return nil, failedLogin("the JWT is not valid: its signature does not match a key of the service")
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, expiredLogin("the JWT has expired: get a new one")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return nil, expiredLogin("the JWT is not valid yet: compare the clocks of its issuer and of the service (see JWT_LEEWAY)")
	case err != nil || !parsed.Valid:
		return nil, expiredLogin("the JWT is not for this service: it needs the claim exp, and the issuer and the audience of JWT_ISSUER and JWT_AUDIENCE")
	}
	// Django SimpleJWT's refresh tokens have the same signature as its access tokens.
	if kind, ok := claims["token_type"]; ok && kind != "access" {
		return nil, expiredLogin(`the JWT is not an access token: its claim token_type must be "access"`)
	}
	user, ok := v.user(claims)
	if !ok {
		return nil, expiredLogin("the JWT names no user: it needs the claim user_id or sub (see JWT_USER_CLAIM) with a user id")
	}
	return v.caller(user, claims), nil
}

func (v *Verifier) caller(user messaging.UserID, claims jwt.MapClaims) *Caller {
	own := []Pattern{Pattern(user)}
	c := &Caller{User: user, Scope: Take | Peek | Follow, Take: own, Peek: own, Follow: own, OwnSendsOnly: true, Limits: v.config.Limits}
	if v.config.Send {
		c.Scope |= Send
	}
	if end, err := claims.GetExpirationTime(); err == nil && end != nil {
		c.Expires = end.Time
	}
	return c
}

// user returns the user of the claims. Django SimpleJWT writes the id of a user as a
// number or as a string, by its version.
func (v *Verifier) user(claims jwt.MapClaims) (messaging.UserID, bool) {
	name := v.config.UserClaim
	if name == "" {
		if name = "user_id"; claims[name] == nil {
			name = "sub"
		}
	}
	switch id := claims[name].(type) {
	case string:
		return messaging.ParseUserID(id)
	case json.Number:
		user, err := messaging.ParseIDField(name, []byte(id))
		return messaging.UserID(user), err == nil
	}
	return "", false
}

// keys returns the keys that may verify a token: those of its algorithm.
func (v *Verifier) keys(ctx context.Context, t *jwt.Token) (any, error) {
	algorithm := t.Method.Alg()
	if algorithm == "HS256" {
		return v.config.Secret, nil
	}
	var set jwt.VerificationKeySet
	for _, k := range v.config.Keys {
		if k.Algorithm == algorithm {
			set.Keys = append(set.Keys, k.Public)
		}
	}
	if v.config.KeySet != nil {
		set.Keys = append(set.Keys, v.config.KeySet.find(ctx, t)...)
	}
	if len(set.Keys) == 0 {
		return nil, errNoKey
	}
	return set, nil
}

var errNoKey = errors.New("no key for this token")

// minRSABits is the minimum size of a key for RS256 (RFC 7518, section 3.3).
const minRSABits = 2048

// keyOf returns a public key with its algorithm. It refuses keys of other algorithms and
// short ones.
func keyOf(public any) (Key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return Key{}, fmt.Errorf("an RSA key needs %d bits or more; this one has %d", minRSABits, k.N.BitLen())
		}
		return Key{"RS256", k}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return Key{}, errors.New("an EC key must be of the curve P-256")
		}
		return Key{"ES256", k}, nil
	case ed25519.PublicKey:
		return Key{"EdDSA", k}, nil
	}
	return Key{}, errors.New("a key must be of RSA, EC P-256 or Ed25519")
}

// maxKeys bounds the number of keys that a token without a key id is tried with.
const maxKeys = 16

// ParseKeys reads public keys in PEM: RSA for RS256, EC P-256 for ES256, Ed25519 for
// EdDSA. A private key is refused: the service does not need it.
func ParseKeys(text []byte) ([]Key, error) {
	var keys []Key
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errors.New("it has a private key: give only the public one (openssl pkey -pubout)")
		}
		public, err := parsePublic(block)
		if err != nil {
			return nil, err
		}
		key, err := keyOf(public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("it must have 1 to %d public keys in PEM", maxKeys)
	}
	return keys, nil
}

func parsePublic(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "RSA PUBLIC KEY":
		if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "CERTIFICATE":
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			return cert.PublicKey, nil
		}
	}
	return nil, fmt.Errorf("it has a block %q that is not a public key or a certificate", block.Type)
}
