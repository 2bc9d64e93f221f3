package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// callTimeout bounds one call of the command line.
const callTimeout = 90 * time.Second

// complete finds out what no flag said.
func (r *remote) complete() error {
	given := make(map[string]string)
	if r.URL != "" {
		given["url"] = r.URL
	}
	if r.Token != "" {
		given["token"] = r.Token
	}
	c, err := loadClient(given, os.LookupEnv)
	if err != nil {
		return err
	}
	r.URL, r.Token = c.ServiceURL, c.ServiceToken
	return nil
}

// call asks a running service and gives its answer; an error carries what the
// service said.
func (r *remote) call(method, path string, body []byte) (jsontext.Value, error) {
	header := make(http.Header)
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	return r.send(method, path, bytes.NewReader(body), header)
}

// send is call with headers.
func (r *remote) send(method, path string, body io.Reader, header http.Header) (jsontext.Value, error) {
	if err := r.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, r.URL+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w: no request can be made of what was given", errConfig)
	}
	request.Header = header
	if r.Token != "" {
		request.Header.Set("Authorization", "Bearer "+r.Token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return nil, fmt.Errorf("no answer from %s: %w (is the service running there? see --url)", redacted(r.URL), err)
	}
	defer func() { _ = response.Body.Close() }() // it is read whole below
	answer, err := io.ReadAll(io.LimitReader(response.Body, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("the answer from %s broke off: %w", redacted(r.URL), err)
	}
	if response.StatusCode != http.StatusOK {
		return answer, refusedError(response, answer)
	}
	if !jsontext.Value(answer).IsValid() {
		return nil, fmt.Errorf("what answers at %s is not this service", redacted(r.URL))
	}
	return answer, nil
}

// errRefused marks an answer of the service that is not a success.
var errRefused = errors.New("refused")

func refusedError(response *http.Response, answer []byte) error {
	var said struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Field   string `json:"field"`
		Index   *int   `json:"index"`
	}
	if json.Unmarshal(answer, &said) != nil || said.Message == "" {
		return fmt.Errorf("%w: %s", errRefused, response.Status)
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

// get asks with GET and reads the answer into out, unless that is nil.
func (r *remote) get(path string, out any) (jsontext.Value, error) {
	answer, err := r.call(http.MethodGet, path, nil)
	if err != nil || out == nil {
		return answer, err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("the answer from %s is not understood: %w", redacted(r.URL), err)
	}
	return answer, nil
}
