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

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/limits"
)

// maxBulkBody is the largest body of a batch or a broadcast, in bytes.
const maxBulkBody = 64 << 20

// buffers are reused for the bodies of requests and responses. A buffer larger than
// maxPooled is left to the garbage collector, so one large request does not keep its
// memory.
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

// body reads the JSON body of a request and calls use with it. The bytes are valid
// during the call. weight is the memory that one byte of the body takes while the
// request is in progress.
func (s *Server) body(r *request, limit, weight int64, use func(body []byte) error) error {
	if _, err := checkContent(r.Header, mediaJSON); err != nil {
		return err
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	stopCloseNotify(r.Request) // a call with a body waits only for the disk
	reservation := s.inflight.Hold(r.share.Memory())
	defer reservation.Release()
	buffer := newBuffer()
	defer freeBuffer(buffer)
	var err error
	if *buffer, err = readBody(r.Request, (*buffer)[:0], limit, weight, reservation); err != nil {
		return err
	}
	return use(*buffer)
}

func tooLarge(limit int64) error {
	return messaging.Errorf(messaging.CodeTooLarge, "the body is larger than %d bytes", limit)
}

// initialRead is the memory for a body before any of it has arrived. Each later step
// doubles the size. It is small, so that a slow send on every connection does not use
// up the memory for requests.
const initialRead = 4 << 10

// readBody reads a body into dst. The memory and the reservation grow with the bytes
// that arrive, not with the declared length: a client may declare a large body and
// send little.
func readBody(r *http.Request, dst []byte, limit, weight int64, reservation *limits.Reservation) ([]byte, error) {
	end := r.ContentLength
	if end < 0 {
		end = limit + 1 // a chunked body of this size is too large
	}
	for size := int64(0); size < end; {
		added := min(max(size, initialRead), end-size)
		if err := reservation.Grow(added * weight); err != nil {
			return dst, err
		}
		size += added
		var whole bool
		var err error
		if dst, whole, err = fill(r.Body, grown(dst, size), size); whole || err != nil {
			return dst, bodyError(err)
		}
	}
	if int64(len(dst)) > limit {
		return dst, tooLarge(limit)
	}
	return dst, nil
}

// grown returns dst with a capacity of at least size bytes. A new slice has exactly
// that capacity.
func grown(dst []byte, size int64) []byte {
	if int64(cap(dst)) >= size {
		return dst
	}
	return append(make([]byte, 0, size), dst...)
}

// fill reads until dst has size bytes. whole is true if the body ended before that.
func fill(body io.Reader, dst []byte, size int64) (filled []byte, whole bool, err error) {
	for int64(len(dst)) < size {
		n, err := body.Read(dst[len(dst):size])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, true, nil
		}
		if err != nil {
			return dst, false, err
		}
	}
	return dst, false, nil
}

// bodyError returns the error for a failed read of a body. Usually the client has gone
// and does not read the response.
func bodyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return messaging.Errorf(messaging.CodeRequestTimeout, "the body did not arrive in time")
	}
	return messaging.Errorf(messaging.CodeInvalidJSON, "Invalid JSON: the body ended early or its framing is broken")
}

// Media types of bodies.
const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

// checkContent returns the media type of a body. It refuses a media type that is not in
// taken, a compressed body, a charset other than UTF-8, and repeated Content-Type
// headers.
func checkContent(h http.Header, taken ...string) (media string, err error) {
	for _, encoding := range h["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return "", messaging.Errorf(messaging.CodeUnsupportedMediaType, "compressed bodies are not accepted")
		}
	}
	if kinds := h["Content-Type"]; len(kinds) == 1 {
		if media = mediaOf(kinds[0]); slices.Contains(taken, media) {
			return media, nil
		}
	}
	return "", messaging.Errorf(messaging.CodeUnsupportedMediaType, "the body must be sent as Content-Type: %s, in UTF-8", strings.Join(taken, " or "))
}

// mediaOf returns a media type without its parameters, or "" if it is invalid or its
// charset is not UTF-8.
func mediaOf(kind string) string {
	if kind == mediaJSON {
		return kind
	}
	media, params, err := mime.ParseMediaType(kind)
	if err != nil || (params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8")) {
		return ""
	}
	return media
}
