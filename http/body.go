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
)

// maxMany bounds the body of a call that sends to many, in bytes.
const maxMany = 64 << 20

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
	if _, err := checkContent(r.Header, mediaJSON); err != nil {
		return err
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	unwatch(r) // no call with a body waits for anything but the disk
	held := s.inflight.hold()
	defer held.release()
	buffer := newBuffer()
	defer freeBuffer(buffer)
	var err error
	if *buffer, err = readBody(r, (*buffer)[:0], limit, weight, held); err != nil {
		return err
	}
	return use(*buffer)
}

func tooLarge(limit int64) error {
	return messaging.Errorf(messaging.CodeTooLarge, "the body is larger than %d bytes", limit)
}

// firstRoom is how much of a body is taken on trust; every step after that
// doubles what has arrived. It is so small that a slow send on every connection
// does not use up what may be in flight.
const firstRoom = 4 << 10

// readBody reads a body into dst. What it takes, in memory and of the budget,
// follows what arrived: a client may declare much and send little.
func readBody(r *http.Request, dst []byte, limit, weight int64, held *held) ([]byte, error) {
	end := r.ContentLength
	if end < 0 {
		end = limit + 1 // a chunked body that gets there is too large
	}
	for room := int64(0); room < end; {
		added := min(max(room, firstRoom), end-room)
		if err := held.grow(added * weight); err != nil {
			return dst, err
		}
		room += added
		var whole bool
		var err error
		if dst, whole, err = fill(r.Body, grown(dst, room), room); whole || err != nil {
			return dst, bodyError(err)
		}
	}
	if int64(len(dst)) > limit {
		return dst, tooLarge(limit)
	}
	return dst, nil
}

// grown gives dst the capacity for room bytes, and no more than that where it
// has to be made.
func grown(dst []byte, room int64) []byte {
	if int64(cap(dst)) >= room {
		return dst
	}
	return append(make([]byte, 0, room), dst...)
}

// fill reads until dst has room bytes; whole says that the body ended before.
func fill(body io.Reader, dst []byte, room int64) (filled []byte, whole bool, err error) {
	for int64(len(dst)) < room {
		n, err := body.Read(dst[len(dst):room])
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

// Media types of bodies.
const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

// checkContent refuses what is not of the media types that a call takes, is
// compressed or not in UTF-8, or says two things. It says which type it is.
func checkContent(h http.Header, taken ...string) (media string, err error) {
	for _, encoding := range h["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return "", messaging.Errorf(messaging.CodeUnsupportedMediaType, "compressed bodies are not taken")
		}
	}
	if kinds := h["Content-Type"]; len(kinds) == 1 {
		if media = mediaOf(kinds[0]); slices.Contains(taken, media) {
			return media, nil
		}
	}
	return "", messaging.Errorf(messaging.CodeUnsupportedMediaType, "the body must be sent as Content-Type: %s, in UTF-8", strings.Join(taken, " or "))
}

// mediaOf gives a media type in UTF-8 without its parameters, or nothing.
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
