package main_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	built "github.com/stayafrica/messaging/bench/program"
)

// certificates is an authority with its certificates in files of a directory.
type certificates struct {
	*built.Authority

	t   *testing.T
	dir string
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{t: t, dir: t.TempDir()}
	var err error
	if c.Authority, err = built.NewAuthority(c.dir); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *certificates) path(name string) string { return filepath.Join(c.dir, name) }

// issue writes <file>.pem and <file>.key for a name.
func (c *certificates) issue(file, name string) {
	c.t.Helper()
	if _, err := c.Issue(file, name); err != nil {
		c.t.Fatal(err)
	}
}

// client returns a client that trusts the authority. file names its own certificate, or is
// empty.
func (c *certificates) client(file string) *http.Client {
	c.t.Helper()
	config := &tls.Config{RootCAs: c.Pool}
	if file != "" {
		pair, err := tls.LoadX509KeyPair(c.path(file+".pem"), c.path(file+".key"))
		if err != nil {
			c.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// startTLS starts a service that speaks TLS.
func (c *certificates) startTLS(env ...string) *service {
	c.t.Helper()
	path, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	port := freePort(c.t)
	s := &service{url: "https://127.0.0.1:" + port, env: append([]string{
		"HTTP_PORT=" + port, "DATA_DIR=" + c.t.TempDir(), "DJANGO_API_URL=off", "DISK_MIN_FREE=1MiB",
		"TLS_CERT=" + c.path("server.pem"), "TLS_KEY=" + c.path("server.key"),
	}, env...)}
	s.program = start(c.t, s.env, path, "serve")
	eventually(c.t, 20*time.Second, "the service is ready", func() bool {
		status, _, _ := messaging(c.t, []string{"MESSAGING_CA=" + c.path("ca.pem")}, "ping", "--url", s.url)
		return status == 0
	})
	return s
}

func status(client *http.Client, url string) int {
	response, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// The port speaks TLS, and a new certificate is used when its files change. A pair that does
// not belong together leaves the former one.
func TestTLS(t *testing.T) {
	c := newCertificates(t)
	c.issue("server", "first")
	audit := c.path("audit.log")
	s := c.startTLS("API_TOKENS=backend:a-secret-of-the-tests", "AUDIT_LOG="+audit)
	env := []string{"MESSAGING_URL=" + s.url, "MESSAGING_TOKEN=a-secret-of-the-tests"}
	if status, out, errs := messaging(t, env, "send", "789", "Hello", "--ca", c.path("ca.pem")); status != 0 {
		t.Errorf("%d %s %s", status, out, errs)
	}
	if status, _, errs := messaging(t, env, "stats"); status != 1 || !strings.Contains(errs, "cannot be trusted") || !strings.Contains(errs, "--ca") {
		t.Errorf("without the authority: %d %s", status, errs)
	}
	// On the machine of the service, with its settings, nothing else is needed.
	if status, _, errs := messaging(t, s.env, "ping"); status != 0 {
		t.Errorf("ping with the settings of the service: %d %s", status, errs)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: c.Pool, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil || conn.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Fatalf("%v", err)
	}
	_ = conn.Close()
	if _, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: c.Pool, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is accepted")
	}

	served := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: c.Pool})
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	c.issue("server", "second")
	eventually(t, 10*time.Second, "the new certificate is served", func() bool { return served() == "second" })
	write(t, c.path("server.key"), "nonsense", 0o600)
	eventually(t, 10*time.Second, "the wrong key is refused", func() bool { return failedReloads(audit) == 1 })
	if name := served(); name != "second" {
		t.Errorf("with a wrong key: %s", name)
	}
	if s.terminate() != 0 || strings.Count(s.log.String(), "a file is not loaded again") != 1 {
		t.Errorf("the log:\n%s", s.log)
	}
}

// With TLS_CLIENT_CA a certificate is a caller, and the tokens file may name it.
func TestClientCertificates(t *testing.T) {
	c := newCertificates(t)
	c.issue("server", "server")
	c.issue("backend", "backend")
	c.issue("other", "other")
	s := c.startTLS("TLS_CLIENT_CA=" + c.path("ca.pem"))
	for file, want := range map[string]int{"backend": 200, "other": 200, "": 401} {
		if got := status(c.client(file), s.url+"/api/stats"); got != want {
			t.Errorf("certificate %q: %d, want %d", file, got, want)
		}
	}
	if got := status(c.client(""), s.url+"/health"); got != 200 {
		t.Errorf("health without a certificate: %d", got)
	}
	file := c.path("tokens.yaml")
	write(t, file, "tokens:\n- name: backend\n  certificate: backend\n  scopes: [operate]\n", 0o600)
	s = c.startTLS("TLS_CLIENT_CA="+c.path("ca.pem"), "TOKENS_FILE="+file)
	for _, of := range []struct {
		file, path string
		want       int
	}{{"backend", "/api/stats", 200}, {"backend", "/api/messages/queue/1", 403}, {"other", "/api/stats", 401}} {
		if got := status(c.client(of.file), s.url+of.path); got != of.want {
			t.Errorf("certificate %s, %s: %d, want %d", of.file, of.path, got, of.want)
		}
	}
}

// The drain trusts the authority of DJANGO_CA only, and shows its certificate.
func TestDrainWithCertificates(t *testing.T) {
	c := newCertificates(t)
	c.issue("django", "django")
	c.issue("drain", "drain")
	asked := make(chan string, 100)
	django := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.TLS.PeerCertificates[0].Subject.CommonName
		_, _ = io.WriteString(w, `{"persisted":1,"errors":[]}`)
	}))
	pair, err := tls.LoadX509KeyPair(c.path("django.pem"), c.path("django.key"))
	if err != nil {
		t.Fatal(err)
	}
	django.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.Pool}
	django.StartTLS()
	defer django.Close()
	s := startService(t, "DJANGO_API_URL="+django.URL, "DJANGO_CA="+c.path("ca.pem"), "DJANGO_CLIENT_CERT="+c.path("drain.pem"), "DJANGO_CLIENT_KEY="+c.path("drain.key"))
	s.send(t, 1, "Hello")
	select {
	case name := <-asked:
		if name != "drain" {
			t.Errorf("the drain shows the certificate of %s", name)
		}
	case <-time.After(10 * time.Second):
		t.Error("Django is not asked")
	}
}

// The command line does not follow a redirect, because it would send its token along.
func TestCommandLineFollowsNoRedirect(t *testing.T) {
	var leaked bool
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked = r.Header.Get("Authorization") != "" }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	status, _, errs := messaging(t, []string{"MESSAGING_URL=" + server.URL, "MESSAGING_TOKEN=a-secret-of-the-tests"}, "stats")
	if status != 1 || !strings.Contains(errs, "redirects to "+other.URL) || leaked {
		t.Errorf("%d %s, leaked %t", status, errs, leaked)
	}
}

// What a server says cannot control the terminal.
func TestServersCannotControlTheTerminal(t *testing.T) {
	const evil = "\u202egnp.exe\u009b2J"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/api/stats" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, `{"status":"error","message":"`+evil+`","code":"forbidden","field":null,"messages":[],"count":0,"user_id":"`+evil+`"}`)
	}))
	defer server.Close()
	env := []string{"MESSAGING_URL=" + server.URL}
	for _, args := range [][]string{{"stats"}, {"peek", "1"}, {"peek", "1", "--json"}, {"size", "1", "--json"}} {
		_, out, errs := messaging(t, env, args...)
		if strings.ContainsAny(out+errs, "\u202e\u009b") {
			t.Errorf("%v: %q %q", args, out, errs)
		}
	}
}
