package persist

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
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

// Patterns of the original's endpoint.
const (
	// DefaultDuplicatePattern is what it says of a row that is there already,
	// more than once.
	DefaultDuplicatePattern = `returned more than one Message`
	// DefaultPermanentPattern is what it says of a row that it would need and
	// that is not there. It never matches a unique violation: that row is stored.
	DefaultPermanentPattern = `matching query does not exist`
)

// DjangoConfig says where the backend is and how to speak to it.
type DjangoConfig struct {
	// URL is the whole address of the endpoint.
	URL string
	// Header is sent with every request, above the service's own.
	Header http.Header
	// SigningKeys are what requests are signed with, one signature each (see
	// [SignatureHeader]); none where there are none.
	SigningKeys []string
	// Timeout bounds one request (default 10 s).
	Timeout time.Duration
	// Connections is how many requests run at once (default 4).
	Connections int
	// Duplicate and Permanent match error texts; nil takes the defaults.
	Duplicate, Permanent *regexp.Regexp
	// Trust2xx takes a good status without a body that accounts for the batch.
	Trust2xx bool
}

// Django is the [Sink] that posts batches to a REST endpoint of Django.
type Django struct {
	config DjangoConfig
	client *http.Client
}

// NewDjango prepares the sink. It opens no connection.
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
		// Go would follow a redirect with a GET, hand the secrets on and report
		// a success.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: config.Timeout}).DialContext,
			MaxIdleConnsPerHost:    config.Connections,
			MaxConnsPerHost:        config.Connections + 1,
			IdleConnTimeout:        60 * time.Second,
			TLSHandshakeTimeout:    config.Timeout,
			DisableCompression:     true, // a bomb has nothing to unfold
			MaxResponseHeaderBytes: 64 << 10,
		},
	}}
}

// Close drops idle connections.
func (d *Django) Close() { d.client.CloseIdleConnections() }

// Deliver posts a batch and reads the answer.
func (d *Django) Deliver(ctx context.Context, batch []messaging.Message) Answer {
	body := encodeBatch(batch)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.config.URL, bytes.NewReader(body))
	if err != nil {
		return Answer{Verdict: Misconfigured, Reason: "the address of the backend is not one"}
	}
	maps.Copy(request.Header, d.config.Header)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Erlang-Service", "messaging")
	request.Header.Set("Idempotency-Key", batchKey(batch))
	if len(d.config.SigningKeys) > 0 {
		request.Header.Set(SignatureHeader, sign(d.config.SigningKeys, time.Now(), request.URL.EscapedPath(), body))
	}
	response, err := d.client.Do(request)
	if err != nil {
		return unanswered(err)
	}
	defer func() { _ = response.Body.Close() }() // the answer is read or given up
	limit := answerLimit(len(body))
	text, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return unanswered(err)
	}
	if int64(len(text)) > limit && isGood(response.StatusCode) {
		return tooLarge(response.StatusCode, len(batch))
	}
	return d.read(response, text, batch)
}

const (
	// escaped is how much longer JSON may be that says the same in other words:
	// a byte becomes \u0000.
	escaped = 6
	// answerSpare is for what an answer says beside what was sent, answerMax for
	// all of it: it is held in memory.
	answerSpare = 1 << 20
	answerMax   = 32 << 20
)

// answerLimit bounds what is read of an answer: it may hold all that was sent,
// because errors bring their messages back.
func answerLimit(sent int) int64 {
	return min(escaped*int64(sent)+answerSpare, answerMax)
}

// tooLarge is the verdict on a good status whose body was not read to its end.
// A smaller batch has a smaller answer; what answers one message like that is
// no endpoint.
func tooLarge(status, messages int) Answer {
	if messages > 1 {
		return Answer{Verdict: Mismatched, Status: status, Reason: "its answer is far larger than the batch"}
	}
	return Answer{Verdict: Misconfigured, Status: status, Reason: "its answer is far larger than the message (is DJANGO_PERSIST_PATH the endpoint?)"}
}

func isGood(status int) bool { return status >= 200 && status < 300 }

// encodeBatch writes the body of a request.
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

// batchKey names a batch by its messages: the same for every repetition of it,
// another for a half.
func batchKey(batch []messaging.Message) string {
	hash := sha256.New()
	for i := range batch {
		hash.Write(batch[i].ID[:])
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// unanswered says what a request that failed on the way means.
func unanswered(err error) Answer {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Answer{Verdict: TimedOut, Reason: "it did not answer in time"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Answer{Verdict: Unavailable, Reason: "it broke off in the middle of its answer"}
	}
	return Answer{Verdict: Unreached, Reason: reach(err)}
}

// reach gives the last cause: the address before it is in the configuration.
func reach(err error) string {
	for {
		cause := errors.Unwrap(err)
		if cause == nil {
			return err.Error()
		}
		err = cause
	}
}

// read turns an answer into its verdict, as the contract's table has it.
func (d *Django) read(response *http.Response, text []byte, batch []messaging.Message) Answer {
	status := response.StatusCode
	switch {
	case isGood(status):
		a := d.account(text, batch)
		a.Status = status
		return a
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return Answer{Verdict: Rejected, Status: status, Reason: excerpt(text)}
	case status == http.StatusTooManyRequests:
		return Answer{Verdict: Throttled, Status: status, Reason: "it wants fewer requests", RetryAfter: retryAfter(response.Header, time.Now())}
	case status == http.StatusRequestTimeout:
		return Answer{Verdict: TimedOut, Status: status, Reason: "it gave the request up", RetryAfter: retryAfter(response.Header, time.Now())}
	case status == http.StatusTooEarly, status >= 500:
		return Answer{Verdict: Unavailable, Status: status, Reason: "it is out of order", RetryAfter: retryAfter(response.Header, time.Now())}
	case status >= 300 && status < 400:
		return Answer{Verdict: Misconfigured, Status: status, Reason: "it redirects: DJANGO_API_URL and DJANGO_PERSIST_PATH must name the endpoint itself (look at the scheme and at the trailing slash)"}
	}
	return Answer{Verdict: Misconfigured, Status: status, Reason: "it does not know the endpoint or does not let the service in: see DJANGO_PERSIST_PATH, DJANGO_SHARED_SECRET and DJANGO_API_TOKEN"}
}

// excerpt makes a reason of a body.
func excerpt(text []byte) string {
	text = bytes.TrimSpace(text)
	if len(text) > messaging.MaxReason {
		text = text[:messaging.MaxReason]
	}
	return string(bytes.ToValidUTF8(text, []byte("\uFFFD")))
}

// retryAfter reads the header in seconds or as a date; 0 where it says nothing
// useful.
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
