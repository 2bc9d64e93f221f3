package repair

import (
	"encoding/binary"
	"hash/crc32"
)

// A write-ahead log is a series of chunks in blocks of 32 KiB (Pebble 2.1:
// record/record.go), in little-endian order:
//
//	checksum:4  length:2  type:1  log number:4  [offset:8]  payload
//
// The checksum is a masked CRC-32C of the bytes from the type on. Types come in groups of
// four: a whole record, then the first, a middle and the last chunk of one. Types 5 to 8
// have no offset, types 9 to 12 have one. Types 1 to 4 have no log number either: they
// occur in manifests, never in logs. Every chunk of a record except the last ends at the
// end of its block, or before a rest that is too small for a header.
//
// Pebble's reader stops at damage. It reads on only to distinguish damage from the end of
// the log. This reader also returns what follows the damage.
const (
	chunkType     = 6
	chunkNumber   = 7
	chunkPlain    = 5 // the first type without an offset
	chunkOffset   = 9 // the first type with one
	chunkTypesEnd = 13
	plainHeader   = 11
	offsetHeader  = 19

	// logBlock is the size of a block. No chunk extends over the end of its block, so
	// reading can resume at the next one.
	logBlock = 32 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// eachRecord visits the records of which every chunk can be read, in order, and returns
// the number of damaged chunks. A record is valid during its visit. After a chunk with a
// damaged header, the rest of its block cannot be found.
func eachRecord(data []byte, number uint32, visit func(record []byte)) (damaged int) {
	var record []byte // the chunks so far of an unfinished record
	open := false     // whether the next chunk belongs to record
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

// Positions of a chunk in its record.
const (
	chunkWhole = iota
	chunkFirst
	chunkMiddle
	chunkLast
)

// nextChunk returns the first chunk of the rest of a block, or nil if there is none of
// this log. It does not verify the checksum.
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
