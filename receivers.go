package messaging

import (
	"encoding/binary"
	"errors"
	"iter"
)

// Receiver is one receiver of a broadcast. It keeps the JSON type of the id: a backend
// that keys users by numbers gets a number back.
type Receiver struct {
	User UserID
	// Quoted is true if the client wrote the id as a string.
	Quoted bool
}

// ReceiversPerChunk is the number of receivers in a chunk. Receivers are stored, queued
// and read one chunk at a time.
const ReceiversPerChunk = 4096

// Receivers is a list of receivers in its stored form, a sequence of:
//
//	uvarint(length<<1 | quoted)  id
//
// It is built once and then only read.
type Receivers struct {
	data   []byte
	count  int
	chunks []int // the offset of each chunk in data
}

// Append adds a receiver.
func (rs *Receivers) Append(r Receiver) { rs.append([]byte(r.User), r.Quoted) }

func (rs *Receivers) append(id []byte, quoted bool) {
	if rs.count%ReceiversPerChunk == 0 {
		rs.chunks = append(rs.chunks, len(rs.data))
	}
	head := uint64(len(id)) << 1
	if quoted {
		head |= 1
	}
	rs.data = binary.AppendUvarint(rs.data, head)
	rs.data = append(rs.data, id...)
	rs.count++
}

// Len returns the number of receivers.
func (rs *Receivers) Len() int { return rs.count }

// Chunks iterates over the encoded chunks and their numbers, in order.
func (rs *Receivers) Chunks() iter.Seq2[uint32, []byte] {
	return func(yield func(uint32, []byte) bool) {
		for i, start := range rs.chunks {
			end := len(rs.data)
			if i+1 < len(rs.chunks) {
				end = rs.chunks[i+1]
			}
			if !yield(uint32(i), rs.data[start:end]) {
				return
			}
		}
	}
}

var errReceivers = errors.New("list of receivers is damaged")

// DecodeReceivers decodes one chunk. For bytes that no [Receivers] wrote it returns an
// error and never panics.
func DecodeReceivers(chunk []byte) ([]Receiver, error) {
	receivers := make([]Receiver, 0, min(ReceiversPerChunk, len(chunk)/2)) // a receiver takes at least two bytes
	for len(chunk) > 0 {
		head, n := binary.Uvarint(chunk)
		size := head >> 1
		if n <= 0 || size > MaxIDLength || len(chunk)-n < int(size) {
			return nil, errReceivers
		}
		end := n + int(size)
		if !storedID(chunk[n:end]) || len(receivers) == ReceiversPerChunk {
			return nil, errReceivers
		}
		receivers = append(receivers, Receiver{User: UserID(chunk[n:end]), Quoted: head&1 == 1})
		chunk = chunk[end:]
	}
	return receivers, nil
}
