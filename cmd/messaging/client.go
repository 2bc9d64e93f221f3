package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// callTimeout is the timeout of one call.
const callTimeout = 90 * time.Second

// complete sets the address and the token that no flag has set.
func (r *remote) complete() error {
	if r.completed {
		return nil
	}
	given := make(map[string]string)
	if r.URL != "" {
		given["url"] = r.URL
	}
	if r.Token != "" {
		given["token"] = r.Token
	}
	if r.CA != "" {
		given["ca"] = r.CA
	}
	c, err := loadClient(given, os.LookupEnv)
	if err != nil {
		return err
	}
	if r.client, err = newClient(&c); err != nil {
		return err
	}
	r.URL, r.Token, r.CA, r.completed = c.ServiceURL, c.ServiceToken, c.ServiceCA, true
	return nil
}

// newClient returns the client for the service. It does not follow redirects: Go would
// send the token to the other server, or change a POST to a GET.
func newClient(c *Config) (*http.Client, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.ServiceCA == "" && c.Access.TLSCert != "" {
		client.Transport = &http.Transport{TLSClientConfig: pinned(c.Access.TLSCert)}
		return client, nil
	}
	if c.ServiceCA == "" {
		return client, nil
	}
	authorities, err := loadAuthorities("MESSAGING_CA", c.ServiceCA)
	if err != nil {
		return nil, err
	}
	client.Transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
	}
	return client, nil
}

// pinned returns the TLS configuration for the service of this machine, whose certificate
// file is known: it accepts exactly that certificate, whatever its names are.
func pinned(certFile string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection checks more
		VerifyConnection: func(s tls.ConnectionState) error {
			text, err := readFileOf("TLS_CERT", certFile)
			if err != nil {
				return err
			}
			block, _ := pem.Decode(text)
			if block == nil || len(s.PeerCertificates) == 0 || !bytes.Equal(block.Bytes, s.PeerCertificates[0].Raw) {
				return errOtherCertificate
			}
			return nil
		},
	}
}

var errOtherCertificate = errors.New("the certificate of the server is not that of TLS_CERT: see --url and --ca")

// call calls a running service and returns its response. The error contains the service's
// message.
func (r *remote) call(method, path string, body []byte) (jsontext.Value, error) {
	header := make(http.Header)
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	return r.send(method, path, bytes.NewReader(body), header)
}

// send is call with headers and a reader of the body.
func (r *remote) send(method, path string, body io.Reader, header http.Header) (jsontext.Value, error) {
	if err := r.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, r.URL+path, body)
	if err != nil {
		return nil, usagef("the path %q is not valid: an id must not have control characters", printable(path))
	}
	request.Header = header
	if r.Token != "" {
		request.Header.Set("Authorization", "Bearer "+r.Token)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, r.noAnswer(err)
	}
	defer func() { _ = response.Body.Close() }() // the body is read below
	answer, err := io.ReadAll(io.LimitReader(response.Body, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("%w: the response from %s was cut off: look at the log of the service, and try again", errNoAnswer, redacted(r.URL))
	}
	if location := response.Header.Get("Location"); response.StatusCode/100 == 3 && location != "" {
		return nil, fmt.Errorf("%w: %s redirects to %s, which is not followed: set --url to the final address", errNoAnswer, redacted(r.URL), redacted(location))
	}
	if response.StatusCode != http.StatusOK {
		return answer, refusedError(response, answer)
	}
	if !jsontext.Value(answer).IsValid() {
		return nil, r.notOurs()
	}
	return answer, nil
}

// errNoAnswer marks a call that the service did not answer.
var errNoAnswer = errors.New("no answer")

// noAnswer returns an error that states why a call was not answered, and what to do.
func (r *remote) noAnswer(err error) error {
	where := redacted(r.URL)
	dns, unknown := errors.AsType[*net.DNSError](err)
	timeout, timed := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens at %s: is the service running there? (see --url and MESSAGING_URL)", errNoAnswer, where)
	case unknown && dns.IsNotFound:
		return fmt.Errorf("%w: the host %q in %s is not known: see --url and MESSAGING_URL", errNoAnswer, dns.Name, where)
	case isCertificateFault(err):
		return fmt.Errorf("%w: the certificate of %s cannot be trusted: %w (see --ca and MESSAGING_CA)", errNoAnswer, where, certificateFault(err))
	case timed && timeout.Timeout():
		return fmt.Errorf("%w: %s did not answer in time: is this service running there? (see --url and MESSAGING_URL)", errNoAnswer, where)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%w: %s closed the connection: it is stopping, or is not this service (see --url and MESSAGING_URL)", errNoAnswer, where)
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err
	}
	return fmt.Errorf("%w from %s: %w (see --url and MESSAGING_URL)", errNoAnswer, where, err)
}

func isCertificateFault(err error) bool { return certificateFault(err) != nil }

// certificateFault returns the error of the check of a certificate, or nil.
func certificateFault(err error) error {
	if fault, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.Err
	}
	return nil
}

// notOurs returns the error for a response of another service.
func (r *remote) notOurs() error {
	return fmt.Errorf("%w: the server at %s is not this service: see --url and MESSAGING_URL", errNoAnswer, redacted(r.URL))
}

// errRefused marks a response of the service that is not a success.
var errRefused = errors.New("refused")

func refusedError(response *http.Response, answer []byte) error {
	var said struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Field   string `json:"field"`
		Index   *int   `json:"index"`
	}
	if json.Unmarshal(answer, &said) != nil || said.Message == "" {
		return fmt.Errorf("%w: %s, in a response that is not of this service: see --url and MESSAGING_URL", errRefused, response.Status)
	}
	hint := ""
	if said.Index != nil {
		hint = fmt.Sprintf(" (message %d, counted from 0)", *said.Index)
	}
	if response.StatusCode == http.StatusUnauthorized {
		hint = " (set MESSAGING_TOKEN or --token)"
	}
	return fmt.Errorf("%w: %s [%s]%s", errRefused, said.Message, said.Code, hint)
}

// get calls with GET and decodes the response into out, unless out is nil.
func (r *remote) get(path string, out any) (jsontext.Value, error) {
	answer, err := r.call(http.MethodGet, path, nil)
	if err != nil || out == nil {
		return answer, err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, r.notOurs()
	}
	return answer, nil
}
