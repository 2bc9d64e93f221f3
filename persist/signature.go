package persist

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader is the header that authenticates a request, its time and its content:
//
//	X-Messaging-Signature: t=1764000000,v1=5257a869…,v1=8f2c…
//
// t is the time of signing in Unix seconds, by which the receiver refuses old requests.
// Each v1 is the hexadecimal HMAC-SHA256, with one of the keys, of the bytes
//
//	t "." path "." body
//
// path is the path of the request line without its query, in one canonical spelling:
// percent-decoded, and then every byte except the slash and the unreserved characters
// of RFC 3986 (letters, digits, "-", ".", "_", "~") percent-encoded with upper-case
// digits. A server that only has the decoded path can compute it (Python:
// urllib.parse.quote(path, safe="/")). During a key rotation there are two keys, so
// that either side may change first: one matching signature is enough. The format is
// that of Stripe's webhooks (https://docs.stripe.com/webhooks#verify-manually) plus the
// path, so that a request signed for one endpoint is not valid at another.
const SignatureHeader = "X-Messaging-Signature"

// sign returns the value of the header for a decoded path.
func sign(keys []string, now time.Time, path string, body []byte) string {
	path = signedPath(path)
	t := strconv.FormatInt(now.Unix(), 10)
	var value strings.Builder
	value.WriteString("t=" + t)
	for _, key := range keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(t + "." + path + "."))
		mac.Write(body)
		value.WriteString(",v1=" + hex.EncodeToString(mac.Sum(nil)))
	}
	return value.String()
}

// signedPath returns the canonical spelling of a decoded path that is signed.
func signedPath(path string) string {
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
