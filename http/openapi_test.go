package http_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/content"
	validation "github.com/pb33f/libopenapi-validator/errors"

	rest "github.com/stayafrica/messaging/http"
)

// described compares the responses of a server with openapi.json.
type described struct {
	t         *testing.T
	validator validator.Validator
	document  map[string]any
	// answered has the statuses that each operation has returned.
	answered map[string]map[string]bool
}

func describe(t *testing.T) *described {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d := &described{t: t, answered: make(map[string]map[string]bool)}
	if err := json.Unmarshal(text, &d.document); err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	if d.validator, errs = validator.NewValidator(document, config.WithFormatAssertions(),
		config.WithBodyDecoder("application/x-ndjson", lines{})); len(errs) > 0 {
		t.Fatal(errs)
	}
	return d
}

// lines decodes a body of lines as a string, as the document describes it.
type lines struct{}

func (lines) Decode(in *content.DecodeInput) (any, error) {
	text, err := io.ReadAll(in.Body)
	return string(text), err
}

// operations returns the operations of the document by method and path.
func (d *described) operations() map[string]map[string]any {
	operations := make(map[string]map[string]any)
	for path, item := range members(d.document["paths"]) {
		for method, operation := range members(item) {
			if method != "parameters" {
				operations[strings.ToUpper(method)+" "+path] = members(operation)
			}
		}
	}
	return operations
}

func members(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// resolve follows a reference within the document.
func (d *described) resolve(v any) map[string]any {
	m := members(v)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	var at any = d.document
	for step := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = members(at)[step]
	}
	return members(at)
}

// call is a request and the expected response.
type call struct {
	method, path, body string
	header             map[string]string
	status             int
	code               string // of an error
	// as is the method under which the response is described, if it is another one.
	as string
}

// malformed reports whether the document does not describe the request.
func (c *call) malformed() bool {
	return slices.Contains([]int{400, 405, 408, 413, 415}, c.status)
}

// call sends a request to a server and compares it and its response with the document. It
// returns the members of the response.
func (d *described) call(s *served, c call) map[string]any {
	d.t.Helper()
	got := s.raw(c.method, c.path, c.body, c.header)
	var answer map[string]any
	_ = json.Unmarshal([]byte(got.text), &answer) // the checks below find invalid JSON
	if code, _ := answer["code"].(string); got.status != c.status || code != c.code {
		d.t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, got.status, got.text, c.status, c.code)
		return answer
	}
	method := c.method
	if c.as != "" {
		method = c.as
	}
	d.checkResponse(s.request(method, c.path, c.body, c.header), got)
	if !c.malformed() {
		if ok, errs := d.validator.ValidateHttpRequest(s.request(c.method, c.path, c.body, c.header)); !ok {
			d.t.Errorf("%s %s was accepted, and is not as described:%s", c.method, c.path, explain(errs))
		}
	}
	return answer
}

// checkResponse compares a response with the document and records its status.
func (d *described) checkResponse(request *http.Request, got received) {
	d.t.Helper()
	response := &http.Response{StatusCode: got.status, Header: got.header, Body: io.NopCloser(strings.NewReader(got.text)), Request: request}
	defer response.Body.Close()
	if ok, errs := d.validator.ValidateHttpResponse(request, response); !ok {
		d.t.Errorf("%s %s: %d %.300s is not as described:%s", request.Method, request.URL.Path, got.status, got.text, explain(errs))
		return
	}
	operation := d.operationOf(request)
	if d.answered[operation] == nil {
		d.answered[operation] = make(map[string]bool)
	}
	d.answered[operation][strconv.Itoa(got.status)] = true
}

// operationOf returns the operation of a request. If several match, it returns the one
// with the smallest number of parameters.
func (d *described) operationOf(request *http.Request) (best string) {
	asked := strings.Split(request.URL.Path, "/")
	for operation := range d.operations() {
		method, path, _ := strings.Cut(operation, " ")
		fits := slices.EqualFunc(strings.Split(path, "/"), asked, func(step, given string) bool {
			return step == given || strings.HasPrefix(step, "{")
		})
		if method == request.Method && fits && (best == "" || strings.Count(operation, "{") < strings.Count(best, "{")) {
			best = operation
		}
	}
	return best
}

func explain(errs []*validation.ValidationError) string {
	var b strings.Builder
	for _, e := range errs {
		fmt.Fprintf(&b, "\n\t%s: %s", e.Message, e.Reason)
		for _, f := range e.SchemaValidationErrors {
			fmt.Fprintf(&b, "\n\t\t%s %s", strings.Join(f.InstancePath, "/"), f.Reason)
		}
	}
	return b.String()
}

func TestOpenAPIDocumentIsValid(t *testing.T) {
	d := describe(t)
	if version, _ := d.document["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		t.Errorf("the version of OpenAPI is %q", version)
	}
	if ok, errs := d.validator.ValidateDocument(); !ok {
		t.Error(explain(errs))
	}
}

func TestOpenAPIDocumentIsWrittenWithTwoSpaces(t *testing.T) {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Indent(&want, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want.Bytes()), bytes.TrimSpace(text)) {
		t.Error("openapi.json is not indented by two spaces: format it with json.Indent")
	}
}

func TestOpenAPIDocumentHasTheRoutesOfTheTable(t *testing.T) {
	var table []string
	for _, r := range rest.New(rest.Config{}).Routes() {
		table = append(table, r.Method+" "+template(r.Path))
	}
	slices.Sort(table)
	if described := slices.Sorted(maps.Keys(describe(t).operations())); !slices.Equal(table, described) {
		t.Errorf("the table has\n%s\nand the document\n%s", strings.Join(table, "\n"), strings.Join(described, "\n"))
	}
}

// template returns the path of a route in the syntax of the document.
func template(path string) string {
	steps := strings.Split(path, "/")
	for i, step := range steps {
		if name, ok := strings.CutPrefix(step, ":"); ok {
			steps[i] = "{" + name + "}"
		}
	}
	return strings.Join(steps, "/")
}

func TestOpenAPIExamplesAreAsDescribed(t *testing.T) {
	d := describe(t)
	s := &served{t: t, addr: "127.0.0.1:8765"}
	examples := 0
	for operation, o := range d.operations() {
		method, path, _ := strings.Cut(operation, " ")
		path = concrete(path)
		for kind, media := range members(members(o["requestBody"])["content"]) {
			body := d.example(operation, media)
			if ok, errs := d.validator.ValidateHttpRequest(s.request(method, path, body, map[string]string{"Content-Type": kind})); !ok {
				t.Errorf("%s: the example of a request:%s", operation, explain(errs))
			}
			examples++
		}
		for status, r := range members(o["responses"]) {
			for kind, media := range members(d.resolve(r)["content"]) {
				code, _ := strconv.Atoi(status)
				d.checkResponse(s.request(method, path, "", nil), received{code, headersFor(code, kind), d.example(operation, media)})
				examples++
			}
		}
	}
	if examples < 100 {
		t.Errorf("only %d examples", examples)
	}
}

func (d *described) example(operation string, media any) string {
	d.t.Helper()
	example, ok := members(media)["example"]
	if text, isText := example.(string); isText {
		return text
	}
	text, err := json.Marshal(example)
	if !ok || err != nil {
		d.t.Errorf("%s has no example: %v", operation, err)
	}
	return string(text)
}

// headersFor returns the headers that a response must have.
func headersFor(status int, kind string) http.Header {
	header := http.Header{"Content-Type": {kind}}
	switch status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="messaging"`)
	case http.StatusMethodNotAllowed:
		header.Set("Allow", "GET, HEAD")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	}
	return header
}

const (
	noSuchJob  = "01a20b46-7d30-7c11-8f5e-2b9d0c6a4e13"
	noSuchDead = "refused-01a20b45-1895-76bd-b871-3ccb78a69ece"
)

// concrete replaces the parameters of a path with values.
func concrete(path string) string {
	id := noSuchDead
	if strings.HasPrefix(path, "/api/jobs") {
		id = noSuchJob
	}
	return strings.NewReplacer("{user_id}", "789", "{id}", id).Replace(path)
}

// unseen reports whether no test here causes a response: a body that does not arrive, an
// internal error, and the limit of connections.
func unseen(operation, status string) bool {
	busy := operation == "GET /metrics" || operation == "GET /openapi.json"
	return status == "408" || status == "500" || (status == "503" && busy)
}

// wantAll fails for each response of the document that no call has returned.
func (d *described) wantAll() {
	d.t.Helper()
	for operation, o := range d.operations() {
		for status := range members(o["responses"]) {
			if !d.answered[operation][status] && !unseen(operation, status) {
				d.t.Errorf("%s never returned %s", operation, status)
			}
		}
	}
}
