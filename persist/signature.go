package persist

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader says who sent a request, when, and that nobody changed it on the
// way:
//
//	X-Messaging-Signature: t=1764000000,v1=5257a869…,v1=8f2c…
//
// t is when it was signed, in Unix seconds, by which the receiver refuses what is
// old. Each v1 is the HMAC-SHA256, in hexadecimal, of the bytes
//
//	t "." path "." body
//
// with one of the keys; path is that of the request line, without its query. While
// keys are exchanged there are two, so that either side may be first: it is enough
// that one of them fits. The form is that of Stripe's webhooks
// (https://docs.stripe.com/webhooks#verify-manually), with the path in it, so that
// what was signed for one endpoint is of no use at another.
const SignatureHeader = "X-Messaging-Signature"

// sign gives the value of the header.
func sign(keys []string, now time.Time, path string, body []byte) string {
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
