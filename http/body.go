package http

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// Limits of bodies, in bytes.
const (
	maxSend      = 1 << 20
	maxBroadcast = 64 << 20
)

// inflight bounds the memory of all requests that are being worked on.
type inflight struct {
	limit int64
	used  atomic.Int64
}

// acquire takes n bytes; false says that there are not so many left. One
// request is always let in, however small the limit.
func (f *inflight) acquire(n int64) bool {
	if used := f.used.Add(n); used > f.limit && used != n {
		f.used.Add(-n)
		return false
	}
	return true
}

func (f *inflight) release(n int64) { f.used.Add(-n) }

// buffers are used again for bodies and answers. A large one is left to the
// garbage collector, or one large request would be remembered for ever.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 64 << 10

func newBuffer() *[]byte {
	b, _ := buffers.Get().(*[]byte)
	return b
}

func freeBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// body reads the body of a request whose content is JSON, and calls use with
// it. The bytes are valid during the call. weight says how much memory working
// on a byte takes.
func (s *Server) body(r *http.Request, limit, weight int64, use func(body []byte) error) error {
	if err := checkContent(r.Header); err != nil {
		return err
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	expected := r.ContentLength
	if expected < 0 {
		expected = limit // chunked: it may become as large as that
	}
	held := min(expected*weight, s.config.MaxInflightBytes)
	if !s.inflight.acquire(held) {
		err := messaging.Errorf(messaging.CodeOverloaded, "too many bytes are being worked on: try again in a second")
		err.RetryAfter = time.Second
		return err
	}
	defer s.inflight.release(held)
	buffer := newBuffer()
	defer freeBuffer(buffer)
	var err error
	if *buffer, err = readBody(r, (*buffer)[:0], limit); err != nil {
		return err
	}
	return use(*buffer)
}

func tooLarge(limit int64) error {
	return messaging.Errorf(messaging.CodeTooLarge, "the body is larger than %d bytes", limit)
}

func readBody(r *http.Request, dst []byte, limit int64) ([]byte, error) {
	if n := r.ContentLength; n >= 0 {
		if int64(cap(dst)) < n {
			dst = make([]byte, n)
		}
		dst = dst[:n]
		_, err := io.ReadFull(r.Body, dst)
		return dst, bodyError(err)
	}
	reader := io.LimitReader(r.Body, limit+1)
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, 4096)
		}
		n, err := reader.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return dst, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, bodyError(err)
		}
	}
}

// bodyError says what a body that did not arrive means. Mostly nobody is left
// to read it.
func bodyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return messaging.Errorf(messaging.CodeRequestTimeout, "the body did not arrive in time")
	}
	return messaging.Errorf(messaging.CodeInvalidJSON, "Invalid JSON: the body ended early or its framing is broken")
}

// checkContent refuses what is not plain JSON in UTF-8.
func checkContent(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return messaging.Errorf(messaging.CodeUnsupportedMediaType, "compressed bodies are not taken")
	}
	kind := h.Get("Content-Type")
	if kind == "application/json" {
		return nil
	}
	media, params, err := mime.ParseMediaType(kind)
	if err != nil || media != "application/json" || (params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8")) {
		return messaging.Errorf(messaging.CodeUnsupportedMediaType, "the body must be sent as Content-Type: application/json, in UTF-8")
	}
	return nil
}
