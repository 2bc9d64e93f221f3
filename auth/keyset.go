package auth

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

// KeySet is a set of public keys (JWKS, RFC 7517) behind a URL. It is read again
// regularly, and when a token names an unknown key, but for that at most once a minute.
// While the URL fails, the last keys stay valid.
type KeySet struct{ storage jwkset.Storage }

// KeySetConfig is the configuration of a [KeySet].
type KeySetConfig struct {
	// URL is an https address. Redirects are refused.
	URL string
	// Refresh is the time between two reads (default 15 minutes), and Timeout the limit
	// of one (default 5 seconds).
	Refresh, Timeout time.Duration
	// Transport makes the requests (default http.DefaultTransport without a proxy).
	Transport http.RoundTripper
	// Failed is called with the error of a read.
	Failed func(error)
}

const (
	maxKeySet       = 256 << 10 // bytes of a key set
	unknownKeyPause = time.Minute
)

var (
	errRedirect  = errors.New("the server redirects: JWT_JWKS_URL must be the final address")
	errKeySetEnd = errors.New("the key set is larger than 256 KiB")
)

// NewKeySet returns a key set, and starts to read it. The reads end with ctx. A first read
// that fails is reported and repeated like the others.
func NewKeySet(ctx context.Context, c KeySetConfig) (*KeySet, error) {
	if c.Refresh == 0 {
		c.Refresh = 15 * time.Minute
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{Proxy: nil, ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: time.Minute}
	}
	failed := func(_ context.Context, err error) {
		if c.Failed != nil {
			c.Failed(err)
		}
	}
	remote, err := jwkset.NewStorageFromHTTP(c.URL, jwkset.HTTPClientStorageOptions{
		Ctx: ctx, HTTPTimeout: c.Timeout, RefreshInterval: c.Refresh, RefreshErrorHandler: failed, NoErrorReturnFirstHTTPReq: true,
		Client: &http.Client{
			Transport:     boundedTransport{c.Transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	storage, err := jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
		HTTPURLs:          map[string]jwkset.Storage{c.URL: remote},
		RateLimitWaitMax:  10 * time.Millisecond, // a token with an unknown key is refused, it does not wait
		RefreshUnknownKID: rate.NewLimiter(rate.Every(unknownKeyPause), 1),
	})
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	return &KeySet{storage}, nil
}

// find returns the keys that may verify a token. A key that names no algorithm has that of
// its type, so that a key verifies one algorithm only.
func (s *KeySet) find(ctx context.Context, t *jwt.Token) []jwt.VerificationKey {
	var found []jwkset.JWK
	if id, ok := t.Header["kid"].(string); ok {
		if key, err := s.storage.KeyRead(ctx, id); err == nil {
			found = []jwkset.JWK{key}
		}
	} else if all, err := s.storage.KeyReadAll(ctx); err == nil {
		found = all[:min(len(all), maxKeys)]
	}
	var keys []jwt.VerificationKey
	for _, jwk := range found {
		public := jwk.Key()
		if private, ok := public.(interface{ Public() crypto.PublicKey }); ok {
			public = private.Public()
		}
		key, err := keyOf(public)
		named := jwk.Marshal().ALG.String()
		use := jwk.Marshal().USE
		if err == nil && key.Algorithm == t.Method.Alg() && (named == "" || named == key.Algorithm) && (use == "" || use == jwkset.UseSig) {
			keys = append(keys, key.Public)
		}
	}
	return keys
}

// boundedTransport refuses responses that are too large.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err //nolint:wrapcheck // the transport's own
	}
	resp.Body = &boundedBody{resp.Body, maxKeySet}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser

	left int
}

// Read implements [io.Reader].
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errKeySetEnd
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}
