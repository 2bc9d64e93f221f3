package http

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/limits"
)

// The names of the calls that store messages, in the scope of idempotency keys.
const (
	callSend      = "send"
	callBatch     = "batch"
	callBroadcast = "broadcast"
)

// openToSends returns the backend, or an error if it is too busy to accept a send.
func (s *Server) openToSends() (*Backend, error) {
	b, err := s.open()
	if err == nil {
		err = b.Queue.Busy()
	}
	return b, err
}

func (s *Server) send(r *request) (resp response, err error) {
	b, err := s.openToSends()
	if err != nil {
		return response{}, err
	}
	err = s.body(r, messaging.MaxBody, 1, func(body []byte) error {
		draft, err := messaging.ParseDraft(body)
		if err != nil {
			return err
		}
		if err := r.caller.MaySend(&draft); err != nil {
			return err
		}
		key, err := s.idempotencyKey(r, callSend, draft.Key, func() [sha256.Size]byte { return sha256.Sum256(draft.Raw) })
		if err != nil {
			return err
		}
		result, err := b.Queue.Send(draft, key)
		if err != nil {
			return err
		}
		r.subject = string(draft.Receiver)
		resp.buffer = newBuffer()
		resp.body = appendSendResult((*resp.buffer)[:0], "Message queued", result, false)
		return nil
	})
	return resp, err
}

// broadcastWeight is the number of bytes of memory per byte of a broadcast's body while
// its receivers are deduplicated.
const broadcastWeight = 4

func (s *Server) broadcast(r *request) (resp response, err error) {
	if err := r.caller.MaySendMany(); err != nil {
		return response{}, err
	}
	b, err := s.openToSends()
	if err != nil {
		return response{}, err
	}
	err = s.body(r, maxBulkBody, broadcastWeight, func(body []byte) error {
		broadcast, err := messaging.ParseBroadcast(body)
		if err != nil {
			return err
		}
		key, err := s.idempotencyKey(r, callBroadcast, "", func() [sha256.Size]byte { return sha256.Sum256(body) })
		if err != nil {
			return err
		}
		result, err := b.Queue.Broadcast(broadcast, key)
		if err != nil {
			return err
		}
		resp.body = appendSendResult(nil, "Broadcast queued", result, true)
		return nil
	})
	return resp, err
}

// idempotencyKey returns the idempotency key of a call, from the header or from the
// field of a message. hash returns the hash of the body without the key.
func (s *Server) idempotencyKey(r *request, call, field string, hash func() [sha256.Size]byte) (messaging.IdempotencyKey, error) {
	const name = "Idempotency-Key"
	given, ok := r.Header[name]
	if !ok && field == "" {
		return messaging.IdempotencyKey{}, nil
	}
	key := field
	if ok {
		if len(given) != 1 || !messaging.ValidIdempotencyKey(given[0]) {
			return messaging.IdempotencyKey{}, messaging.FieldErrorf(messaging.CodeInvalidField, name,
				"%s must be given once and have 1 to %d visible characters", name, messaging.MaxIdempotencyKey)
		}
		if key = given[0]; field != "" && field != key {
			return messaging.IdempotencyKey{}, messaging.FieldErrorf(messaging.CodeInvalidField, "idempotency_key",
				"the header and the field have different idempotency keys")
		}
	}
	return messaging.NewIdempotencyKey(r.caller.ID(), call, key, hash()), nil
}

// appendSendResult appends the response to a send or a broadcast.
func appendSendResult(dst []byte, text string, result messaging.SendResult, recipients bool) []byte {
	dst = append(dst, `{"status":"success","message":"`...)
	dst = append(dst, text...)
	if recipients {
		dst = append(dst, `","recipients":`...)
		dst = strconv.AppendInt(dst, int64(result.Recipients), 10)
		dst = append(dst, `,"id":"`...)
	} else {
		dst = append(dst, `","id":"`...)
	}
	dst = messaging.AppendID(dst, result.ID)
	dst = append(dst, `","sequence":`...)
	dst = strconv.AppendUint(dst, result.Sequence, 10)
	return append(appendDuplicate(dst, result), '}')
}

func appendDuplicate(dst []byte, result messaging.SendResult) []byte {
	if result.Duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return dst
}

// batchWeight is the number of bytes of memory per byte of a batch's messages: one in
// the message and one in the commit.
const batchWeight = 2

func (s *Server) batch(r *request) (response, error) {
	if err := r.caller.MaySendMany(); err != nil {
		return response{}, err
	}
	b, err := s.openToSends()
	if err != nil {
		return response{}, err
	}
	reservation := s.inflight.Hold(r.share.Memory())
	defer reservation.Release()
	source := &batchSource{body: http.MaxBytesReader(nil, r.Body, maxBulkBody), reservation: reservation}
	if _, ok := r.Header["Idempotency-Key"]; ok {
		source.hash = sha256.New()
	}
	drafts, err := s.readBatch(r.Request, source)
	if err != nil {
		return response{}, err
	}
	key, err := s.idempotencyKey(r, callBatch, "", source.sum)
	if err != nil {
		return response{}, err
	}
	result, err := b.Queue.SendAll(drafts, key)
	if err != nil {
		return response{}, err
	}
	return response{body: appendBatchResult(nil, result)}, nil
}

// readBatch reads the messages of a batch as they arrive. It keeps only the parsed
// messages in memory.
func (s *Server) readBatch(r *http.Request, source *batchSource) ([]messaging.Draft, error) {
	media, err := checkContent(r.Header, mediaJSON, mediaLines)
	if err != nil {
		return nil, err
	}
	if r.ContentLength > maxBulkBody {
		return nil, tooLarge(maxBulkBody)
	}
	reader := messaging.NewBatchReader(source)
	if media == mediaLines {
		reader = messaging.NewLinesReader(source)
	}
	var drafts []messaging.Draft
	for {
		d, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return drafts, nil
		}
		if err != nil {
			return nil, batchError(err)
		}
		d.Raw = nil // it may alias more bytes than Body
		if err := source.keep(int64(cap(d.Body)+batchOverhead) * batchWeight); err != nil {
			return nil, err
		}
		drafts = append(drafts, d)
	}
}

// batchOverhead is an estimate of the bytes of a message in memory without its body.
const batchOverhead = 256

// batchError returns the API error for an error of a batch reader: the reader's own
// error, or that of the body.
func batchError(err error) error {
	if _, ok := errors.AsType[*messaging.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(maxBulkBody)
	}
	return bodyError(err)
}

// batchSource is the body of a batch. It hashes the body if hash is set. It reserves the
// memory of the messages that are kept (buffered) and of the bytes of the next message
// that have arrived (arrived).
type batchSource struct {
	body        io.Reader
	hash        hash.Hash
	reservation *limits.Reservation
	buffered    int64
	arrived     int64
}

// Read implements [io.Reader].
func (b *batchSource) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.hash != nil {
		_, _ = b.hash.Write(p[:n]) // a hash does not fail
	}
	b.arrived += int64(n) * batchWeight
	if e := b.account(); e != nil {
		return 0, e
	}
	return n, err
}

// keep reserves the memory of a message that was read.
func (b *batchSource) keep(bytes int64) error {
	b.buffered += bytes
	b.arrived = 0
	return b.account()
}

func (b *batchSource) account() error {
	if need := b.buffered + b.arrived - b.reservation.Bytes(); need > 0 {
		return b.reservation.Grow(need)
	}
	return nil
}

func (b *batchSource) sum() [sha256.Size]byte { return [sha256.Size]byte(b.hash.Sum(nil)) }

func appendBatchResult(dst []byte, result messaging.SendResult) []byte {
	const each = len(`{"id":"01a20b45-1895-76bd-b871-3ccb78a69ece","sequence":1234567890},`)
	dst = append(make([]byte, 0, 64+each*result.Count), dst...)
	dst = append(dst, `{"status":"success","accepted":`...)
	dst = strconv.AppendInt(dst, int64(result.Count), 10)
	dst = append(dst, `,"messages":[`...)
	for i := range result.Count {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":"`...)
		dst = messaging.AppendID(dst, messaging.BatchID(result.ID, i))
		dst = append(dst, `","sequence":`...)
		dst = strconv.AppendUint(dst, result.Sequence+uint64(i), 10)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	return append(appendDuplicate(dst, result), '}')
}
