package persist

import (
	"net/url"
	"testing"
)

// The Django side computes the same spelling from the path that a server has decoded
// (python/tests/test_receive_signature.py has the same table).
func TestPathsAreSignedInOneForm(t *testing.T) {
	for requested, want := range map[string]string{
		"/api/messaging/erlang/persist/": "/api/messaging/erlang/persist/",
		"/api/v=1/":                      "/api/v%3D1/",
		"/api/a;b/":                      "/api/a%3Bb/",
		"/api/caf%c3%a9/":                "/api/caf%C3%A9/",
		"/api/café/":                     "/api/caf%C3%A9/",
		"/api/a%7Eb/":                    "/api/a~b/",
		"/api/a~b/":                      "/api/a~b/",
		"/api/a%20b+c/":                  "/api/a%20b%2Bc/",
		"/api/a%2Fb/":                    "/api/a/b/",
		"/api/100%25/":                   "/api/100%25/",
		"/api/(x)@y:z,$&!*'/":            "/api/%28x%29%40y%3Az%2C%24%26%21%2A%27/",
	} {
		u, err := url.Parse("http://backend" + requested)
		if err != nil {
			t.Fatal(err)
		}
		if got := signedPath(u.Path); got != want {
			t.Errorf("%s is signed as %s, want %s", requested, got, want)
		}
	}
}
