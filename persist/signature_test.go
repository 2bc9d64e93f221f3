package persist_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/persist"
)

// signed posts a batch with keys and returns what arrived.
func signed(t *testing.T, keys ...string) (header, path, body string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		path, _, _ = strings.Cut(r.RequestURI, "?")
		header, body = r.Header.Get(persist.SignatureHeader), string(raw)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL + "/api/a%20b/persist/?x=1", SigningKeys: keys})
	defer sink.Close()
	sink.Deliver(t.Context(), batchOf(2))
	return header, path, body
}

func TestRequestsAreSignedWithEachKey(t *testing.T) {
	keys := []string{"the first key of sixteen", "the second of sixteen"}
	for n := range len(keys) + 1 {
		header, path, body := signed(t, keys[:n]...)
		if n == 0 {
			if header != "" {
				t.Errorf("without a key a request has the signature %q", header)
			}
			continue
		}
		parts := regexp.MustCompile(`^t=(\d+)((?:,v1=[0-9a-f]{64})+)$`).FindStringSubmatch(header)
		if parts == nil {
			t.Fatalf("signature %q", header)
		}
		if at, err := strconv.ParseInt(parts[1], 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("it was signed at %s (%v)", parts[1], err)
		}
		if path != "/api/a%20b/persist/" || body == "" {
			t.Errorf("path %q, body %q", path, body)
		}
		var want strings.Builder
		for _, key := range keys[:n] {
			mac := hmac.New(sha256.New, []byte(key))
			mac.Write([]byte(parts[1] + "." + path + "." + body))
			want.WriteString(",v1=" + hex.EncodeToString(mac.Sum(nil)))
		}
		if parts[2] != want.String() {
			t.Errorf("with %d keys: signatures %s, want %s", n, parts[2], want.String())
		}
	}
}
