package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPasswordInAnAddressIsUsedAndNotShown(t *testing.T) {
	var got atomic.Value
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got.Store(user + ":" + password)
	}))
	t.Cleanup(backend.Close)
	address := strings.Replace(backend.URL, "http://", "http://drain:t0psecret@", 1)
	s := startService(t, "DJANGO_API_URL="+address, "LOG_LEVEL=debug", "PERSIST_LINGER=0s")
	s.send(t, 1, "x")
	eventually(t, 10*time.Second, "the backend is asked with the password", func() bool { return got.Load() == "drain:t0psecret" })
	s.terminate()

	never := func(where, text string) {
		t.Helper()
		if strings.Contains(text, "t0psecret") {
			t.Errorf("%s shows the password: %s", where, text)
		}
	}
	never("the log", s.log.String())
	if !strings.Contains(s.log.String(), "drain:xxxxx@") {
		t.Errorf("the log does not name the backend: %s", s.log)
	}
	for _, args := range [][]string{{"config"}, {"config", "--json"}} {
		status, out, errs := messaging(t, []string{"DJANGO_API_URL=" + address}, args...)
		if status != 0 || !strings.Contains(out, "drain:xxxxx@") {
			t.Errorf("%v: status %d, %s%s", args, status, out, errs)
		}
		never("config", out+errs)
	}
	for _, url := range []string{"http://me:t0psecret@127.0.0.1:1", "http://me:t0psecret@127.0.0.1:x", "me:t0psecret@127.0.0.1:1", "http:/me:t0psecret@127.0.0.1:1", "//me:t0psecret@127.0.0.1:1", "http://127.0.0.1:1/me:t0psecret@x"} {
		status, out, errs := messaging(t, []string{"MESSAGING_URL=" + url}, "stats")
		if status == 0 {
			t.Errorf("%s answers", url)
		}
		never("the command line", out+errs)
	}
	status, _, errs := messaging(t, []string{"DJANGO_API_URL=http://me:t0psecret@127.0.0.1:x"}, "serve")
	if status != 2 {
		t.Errorf("status %d", status)
	}
	never("a wrong configuration", errs)
}
