package persist

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/stayafrica/messaging"
)

// Default patterns for the error texts of the original endpoint.
const (
	// DefaultDuplicatePattern matches the error for a row that exists more than once.
	DefaultDuplicatePattern = `returned more than one Message`
	// DefaultPermanentPattern matches the error for a missing row that the message
	// refers to. It never matches a unique violation: in that case the row is stored.
	DefaultPermanentPattern = `matching query does not exist`
)

// DjangoConfig configures the backend endpoint and its requests.
type DjangoConfig struct {
	// URL is the full address of the endpoint.
	URL string
	// Header is sent with every request and overrides the service's own headers.
	Header http.Header
	// SigningKeys are the keys that sign each request, with one signature per key (see
	// [SignatureHeader]). Without keys, requests are not signed.
	SigningKeys []string
	// TLS is the configuration for https addresses; nil trusts the system's authorities.
	TLS *tls.Config
	// Timeout bounds one request (default 10 s).
	Timeout time.Duration
	// Connections is the maximum number of concurrent requests (default 4).
	Connections int
	// Duplicate and Permanent match error texts; nil selects the defaults.
	Duplicate, Permanent *regexp.Regexp
	// Trust2xx accepts a 2xx status whose body does not account for the batch.
	Trust2xx bool
}

// Django is the [Sink] that posts batches to a Django REST endpoint.
type Django struct {
	config DjangoConfig
	client *http.Client
}

// NewDjango returns a sink. It opens no connection.
func NewDjango(config DjangoConfig) *Django {
	config.Timeout = cmp.Or(config.Timeout, 10*time.Second)
	config.Connections = cmp.Or(config.Connections, 4)
	if config.Duplicate == nil {
		config.Duplicate = regexp.MustCompile(DefaultDuplicatePattern)
	}
	if config.Permanent == nil {
		config.Permanent = regexp.MustCompile(DefaultPermanentPattern)
	}
	return &Django{config: config, client: &http.Client{
		Timeout: config.Timeout,
		// Without this, Go follows a redirect with a GET, sends the secrets along and
		// reports success.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: config.Timeout}).DialContext,
			MaxIdleConnsPerHost:    config.Connections,
			MaxConnsPerHost:        config.Connections + 1,
			IdleConnTimeout:        60 * time.Second,
			TLSHandshakeTimeout:    config.Timeout,
			TLSClientConfig:        config.TLS,
			DisableCompression:     true, // a compressed body could expand to any size
			MaxResponseHeaderBytes: 64 << 10,
		},
	}}
}

// Close closes idle connections.
func (d *Django) Close() { d.client.CloseIdleConnections() }

// Deliver posts a batch and reads the response.
func (d *Django) Deliver(ctx context.Context, batch []messaging.Message) Response {
	body := encodeBatch(batch)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.config.URL, bytes.NewReader(body))
	if err != nil {
		return Response{Class: Misconfigured, Reason: "the address of the backend is invalid"}
	}
	maps.Copy(request.Header, d.config.Header)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Erlang-Service", "messaging")
	request.Header.Set("Idempotency-Key", batchKey(batch))
	if len(d.config.SigningKeys) > 0 {
		request.Header.Set(SignatureHeader, sign(d.config.SigningKeys, time.Now(), request.URL.Path, body))
	}
	response, err := d.client.Do(request)
	if err != nil {
		return classifyError(err)
	}
	defer func() { _ = response.Body.Close() }() // the rest of the body is not read
	return d.classify(response, len(body), batch)
}

const (
	// escaped is the factor by which JSON escaping can lengthen a text: one byte
	// becomes \u0000.
	escaped = 6
	// responseSpare is the allowance, in bytes, for what a response contains besides
	// the sent messages. maxResponse bounds the whole response.
	responseSpare = 1 << 20
	maxResponse   = 32 << 20
	// refusalRead is how many bytes of a refusal's body are read for the reason.
	refusalRead = 16 * messaging.MaxReason
)

// responseLimit returns how many bytes of a response are read. A response may contain
// everything that was sent, because errors return their messages.
func responseLimit(sent int) int64 {
	return min(escaped*int64(sent)+responseSpare, maxResponse)
}

// body reads a response body up to its limit. It records why reading ended, because the
// decoder's error does not distinguish that from invalid JSON.
type body struct {
	from io.Reader
	left int64
	err  error // the connection failed
	over bool  // the body is longer than the limit
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.over {
		return 0, io.EOF
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left+1)])
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	if b.left -= int64(n); b.left < 0 {
		b.over = true
		n--
		err = io.EOF
	}
	return n, err
}

// tooLarge returns the class of a 2xx response whose body exceeds the limit. A smaller
// batch has a smaller response; an endpoint that returns this much for one message is
// not the expected endpoint.
func tooLarge(status, messages int) Response {
	if messages > 1 {
		return Response{Class: Mismatched, Status: status, Reason: "its response is far larger than the batch"}
	}
	return Response{Class: Misconfigured, Status: status, Reason: "its response is far larger than the message (is DJANGO_PERSIST_PATH the endpoint?)"}
}

func isGood(status int) bool { return status >= 200 && status < 300 }

// encodeBatch returns the body of a request.
func encodeBatch(batch []messaging.Message) []byte {
	size := 64
	for i := range batch {
		size += len(batch[i].Body) + messaging.JSONOverhead
	}
	body := append(make([]byte, 0, size), `{"messages":[`...)
	for i := range batch {
		if i > 0 {
			body = append(body, ',')
		}
		body = batch[i].AppendJSON(body)
	}
	return append(body, "]}"...)
}

// batchKey derives a key from the messages of a batch: a repetition has the same key, a
// half of the batch has another.
func batchKey(batch []messaging.Message) string {
	hash := sha256.New()
	for i := range batch {
		hash.Write(batch[i].ID[:])
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// classifyError classifies a request that failed without a response.
func classifyError(err error) Response {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Response{Class: TimedOut, Reason: "it did not respond in time"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Response{Class: Unavailable, Reason: "it closed the connection in the middle of its response"}
	}
	return Response{Class: Unreached, Reason: rootCause(err)}
}

// rootCause returns the text of the innermost error. The outer errors repeat the
// configured address.
func rootCause(err error) string {
	for {
		cause := errors.Unwrap(err)
		if cause == nil {
			return err.Error()
		}
		err = cause
	}
}

// classify maps a response to its class, as the contract's table defines.
func (d *Django) classify(response *http.Response, sent int, batch []messaging.Message) Response {
	status := response.StatusCode
	if isGood(status) {
		return d.account(&body{from: response.Body, left: responseLimit(sent)}, status, batch)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, refusalRead))
	if err != nil {
		return classifyError(err)
	}
	pause := retryAfter(response.Header, time.Now())
	switch {
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return Response{Class: Rejected, Status: status, Reason: excerpt(text)}
	case status == http.StatusTooManyRequests:
		return Response{Class: Throttled, Status: status, Reason: "it asks for fewer requests", RetryAfter: pause}
	case status == http.StatusRequestTimeout:
		return Response{Class: TimedOut, Status: status, Reason: "it abandoned the request", RetryAfter: pause}
	case status == http.StatusTooEarly, status >= 500:
		return Response{Class: Unavailable, Status: status, Reason: "it is out of order", RetryAfter: pause}
	case status >= 300 && status < 400:
		return Response{Class: Misconfigured, Status: status, Reason: "it redirects: DJANGO_API_URL and DJANGO_PERSIST_PATH must name the endpoint itself (check the scheme and the trailing slash)"}
	}
	return Response{Class: Misconfigured, Status: status, Reason: "it has no such endpoint or refuses the service's credentials: see DJANGO_PERSIST_PATH, DJANGO_SHARED_SECRET and DJANGO_API_TOKEN"}
}

// excerpt returns the part of a body that is kept as the reason.
func excerpt(text []byte) string {
	text = bytes.TrimSpace(text)
	if len(text) > messaging.MaxReason {
		text = text[:messaging.MaxReason]
	}
	return string(bytes.ToValidUTF8(text, []byte("\uFFFD")))
}

// retryAfter parses the Retry-After header, in seconds or as a date. It returns 0 for
// an unusable value.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(0, date.Sub(now)), maxRetryAfter)
	}
	return 0
}
