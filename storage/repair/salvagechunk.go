package repair

import (
	"encoding/binary"
	"hash/crc32"
)

// A write-ahead log is a row of chunks in blocks of 32 KiB (Pebble 2.1:
// record/record.go), in little-endian order:
//
//	checksum:4  length:2  type:1  log number:4  [offset:8]  payload
//
// The checksum is a masked CRC-32C from the type on. Of each four types the first
// is a whole record, then the first, a middle and the last chunk of one; 5 to 8
// have no offset, 9 to 12 have it. 1 to 4 have no number either: those are of a
// manifest, never of a log. All chunks of a record but the last end with their
// block, before a rest that no header fits into.
//
// The library's reader stops at damage, and looks further only to tell damage from
// an end. This reader reads what is after it too.
const (
	chunkType     = 6
	chunkNumber   = 7
	chunkPlain    = 5 // the first type without an offset
	chunkOffset   = 9 // the first type with one
	chunkTypesEnd = 13
	plainHeader   = 11
	offsetHeader  = 19

	// logBlock is how large a block is. No chunk goes over the end of one, so
	// reading can begin again at the next one.
	logBlock = 32 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// eachRecord visits the records of a log of which each chunk can be read, in their
// order, and says how many chunks cannot. A record is valid during its visit.
// Where a chunk's header is damaged, what follows in its block cannot be found.
func eachRecord(data []byte, number uint32, visit func(record []byte)) (damaged int) {
	var record []byte // what has come of one that goes over the end of a block
	open := false     // whether the next chunk belongs to it
	for block := 0; block < len(data); block += logBlock {
		rest := data[block:min(block+logBlock, len(data))]
		for {
			chunk := nextChunk(rest, number)
			if chunk == nil {
				open = open && len(rest) < offsetHeader
				break
			}
			rest = rest[len(chunk):]
			if chunkSum(chunk) != binary.LittleEndian.Uint32(chunk) {
				damaged++
				open = false
				continue
			}
			payload := chunk[headerSize(chunk):]
			switch place := (chunk[chunkType] - chunkPlain) % 4; {
			case place == chunkWhole:
				visit(payload)
				open = false
			case place == chunkFirst:
				record, open = append(record[:0], payload...), true
			case open:
				if record = append(record, payload...); place == chunkLast {
					visit(record)
					open = false
				}
			}
		}
	}
	return damaged
}

// What a chunk is of its record.
const (
	chunkWhole = iota
	chunkFirst
	chunkMiddle
	chunkLast
)

// nextChunk returns the chunk at the front of what is left of a block; nil where
// there is none of this log. Its checksum has not been looked at.
func nextChunk(rest []byte, number uint32) []byte {
	if len(rest) < plainHeader || rest[chunkType] < chunkPlain || rest[chunkType] >= chunkTypesEnd ||
		binary.LittleEndian.Uint32(rest[chunkNumber:]) != number {
		return nil
	}
	size := headerSize(rest) + int(binary.LittleEndian.Uint16(rest[4:]))
	if size > len(rest) {
		return nil
	}
	return rest[:size:size]
}

func headerSize(chunk []byte) int {
	if chunk[chunkType] >= chunkOffset {
		return offsetHeader
	}
	return plainHeader
}

func chunkSum(chunk []byte) uint32 {
	c := crc32.Checksum(chunk[chunkType:], castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
