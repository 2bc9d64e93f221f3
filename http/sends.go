package http

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
)

// The calls that store something, as idempotency keys tell them apart.
const (
	callSend      = "send"
	callBatch     = "batch"
	callBroadcast = "broadcast"
)

// openToSends gives the backend, unless it has too much to do to take a send.
func (s *Server) openToSends() (*Backend, error) {
	b, err := s.open()
	if err == nil {
		err = b.Queue.Busy()
	}
	return b, err
}

func (s *Server) send(r *http.Request, _ httprouter.Params) (rep reply, err error) {
	b, err := s.openToSends()
	if err != nil {
		return reply{}, err
	}
	err = s.body(r, messaging.MaxBody, 1, func(body []byte) error {
		draft, err := messaging.ParseDraft(body)
		if err != nil {
			return err
		}
		once, err := s.once(r, callSend, draft.Key, func() [sha256.Size]byte { return sha256.Sum256(draft.Raw) })
		if err != nil {
			return err
		}
		receipt, err := b.Queue.Send(draft, once)
		if err != nil {
			return err
		}
		rep.buffer = newBuffer()
		rep.body = appendReceipt((*rep.buffer)[:0], "Message queued", receipt, false)
		return nil
	})
	return rep, err
}

// broadcastWeight is how many bytes of memory a byte of a broadcast's body
// takes while its receivers are told apart.
const broadcastWeight = 4

func (s *Server) broadcast(r *http.Request, _ httprouter.Params) (rep reply, err error) {
	b, err := s.openToSends()
	if err != nil {
		return reply{}, err
	}
	err = s.body(r, maxMany, broadcastWeight, func(body []byte) error {
		broadcast, err := messaging.ParseBroadcast(body)
		if err != nil {
			return err
		}
		once, err := s.once(r, callBroadcast, "", func() [sha256.Size]byte { return sha256.Sum256(body) })
		if err != nil {
			return err
		}
		receipt, err := b.Queue.Broadcast(broadcast, once)
		if err != nil {
			return err
		}
		rep.body = appendReceipt(nil, "Broadcast queued", receipt, true)
		return nil
	})
	return rep, err
}

// once reads what makes a call safe to repeat: the header, or the field of a
// message. hash is of the body without it.
func (s *Server) once(r *http.Request, call, field string, hash func() [sha256.Size]byte) (messaging.Once, error) {
	const name = "Idempotency-Key"
	given, ok := r.Header[name]
	if !ok && field == "" {
		return messaging.Once{}, nil
	}
	key := field
	if ok {
		if len(given) != 1 || !messaging.ValidIdempotencyKey(given[0]) {
			return messaging.Once{}, messaging.FieldErrorf(messaging.CodeInvalidField, name, "%s must be given once and have 1 to %d visible characters", name, messaging.MaxIdempotencyKey)
		}
		if key = given[0]; field != "" && field != key {
			return messaging.Once{}, messaging.FieldErrorf(messaging.CodeInvalidField, "idempotency_key", "the header and the field give two different idempotency keys")
		}
	}
	return messaging.NewOnce(s.access.caller(r), call, key, hash()), nil
}

// appendReceipt writes the answer to a send or a broadcast.
func appendReceipt(dst []byte, text string, receipt messaging.Receipt, recipients bool) []byte {
	dst = append(dst, `{"status":"success","message":"`...)
	dst = append(dst, text...)
	if recipients {
		dst = append(dst, `","recipients":`...)
		dst = strconv.AppendInt(dst, int64(receipt.Recipients), 10)
		dst = append(dst, `,"id":"`...)
	} else {
		dst = append(dst, `","id":"`...)
	}
	dst = messaging.AppendID(dst, receipt.ID)
	dst = append(dst, `","sequence":`...)
	dst = strconv.AppendUint(dst, receipt.Sequence, 10)
	return append(appendDuplicate(dst, receipt), '}')
}

func appendDuplicate(dst []byte, receipt messaging.Receipt) []byte {
	if receipt.Duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return dst
}

// batchWeight is how many bytes of memory a byte of a batch's messages takes:
// itself, and its place in the commit.
const batchWeight = 2

func (s *Server) batch(r *http.Request, _ httprouter.Params) (reply, error) {
	b, err := s.openToSends()
	if err != nil {
		return reply{}, err
	}
	held := s.inflight.hold()
	defer held.release()
	source := &batchSource{body: http.MaxBytesReader(nil, r.Body, maxMany), held: held}
	if _, ok := r.Header["Idempotency-Key"]; ok {
		source.hash = sha256.New()
	}
	drafts, err := s.readBatch(r, source)
	if err != nil {
		return reply{}, err
	}
	once, err := s.once(r, callBatch, "", source.sum)
	if err != nil {
		return reply{}, err
	}
	receipt, err := b.Queue.SendAll(drafts, once)
	if err != nil {
		return reply{}, err
	}
	return reply{body: appendBatchReceipt(nil, receipt)}, nil
}

// readBatch reads the messages of a batch as they arrive. What it keeps of them
// is all that it holds.
func (s *Server) readBatch(r *http.Request, source *batchSource) ([]messaging.Draft, error) {
	media, err := checkContent(r.Header, mediaJSON, mediaLines)
	if err != nil {
		return nil, err
	}
	if r.ContentLength > maxMany {
		return nil, tooLarge(maxMany)
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
		d.Raw = nil // it may alias more than is kept
		if err := source.keep(int64(cap(d.Body)+batchOverhead) * batchWeight); err != nil {
			return nil, err
		}
		drafts = append(drafts, d)
	}
}

// batchOverhead is about what a message takes beside its body.
const batchOverhead = 256

// batchError tells an error of the contract from a body that did not arrive.
func batchError(err error) error {
	if _, ok := errors.AsType[*messaging.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(maxMany)
	}
	return bodyError(err)
}

// batchSource is the body of a batch; it takes its hash where one is wanted, and
// accounts for what is in memory of it: the messages that are kept, and what has
// arrived of the next one.
type batchSource struct {
	body    io.Reader
	hash    hash.Hash
	held    *held
	kept    int64
	arrived int64
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

// keep accounts for a message that was read.
func (b *batchSource) keep(bytes int64) error {
	b.kept += bytes
	b.arrived = 0
	return b.account()
}

func (b *batchSource) account() error {
	if need := b.kept + b.arrived - b.held.bytes; need > 0 {
		return b.held.grow(need)
	}
	return nil
}

func (b *batchSource) sum() [sha256.Size]byte { return [sha256.Size]byte(b.hash.Sum(nil)) }

func appendBatchReceipt(dst []byte, receipt messaging.Receipt) []byte {
	const each = len(`{"id":"01a20b45-1895-76bd-b871-3ccb78a69ece","sequence":1234567890},`)
	dst = append(make([]byte, 0, 64+each*receipt.Count), dst...)
	dst = append(dst, `{"status":"success","accepted":`...)
	dst = strconv.AppendInt(dst, int64(receipt.Count), 10)
	dst = append(dst, `,"messages":[`...)
	for i := range receipt.Count {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":"`...)
		dst = messaging.AppendID(dst, messaging.NthID(receipt.ID, i))
		dst = append(dst, `","sequence":`...)
		dst = strconv.AppendUint(dst, receipt.Sequence+uint64(i), 10)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	return append(appendDuplicate(dst, receipt), '}')
}
