package storage

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
// have no offset, 9 to 12 have it. A reader that looks for the beginning of a
// record passes over middle chunks.
const (
	chunkType     = 6
	chunkNumber   = 7
	chunkPlain    = 5 // the first type without an offset
	chunkOffset   = 9 // the first type with one
	chunkTypesEnd = 13
	plainHeader   = 11
	offsetHeader  = 19
)

// skipDamagedChunks makes a reader pass over the records of which a chunk is
// damaged, and says how many chunks are: it turns them, and the first one of
// their record, into middle chunks of no record. Only what is in memory of the
// file is changed.
func skipDamagedChunks(data []byte, number uint32) (damaged int) {
	var record []byte // the first chunk of the record that has not ended yet
	for block := 0; block < len(data); block += logBlock {
		rest := data[block:min(block+logBlock, len(data))]
		for {
			chunk := nextChunk(rest, number)
			if chunk == nil {
				break
			}
			rest = rest[len(chunk):]
			place := (chunk[chunkType] - chunkPlain) % 4 // whole, first, middle, last
			switch {
			case chunkSum(chunk) != binary.LittleEndian.Uint32(chunk):
				damaged++
				makeMiddle(chunk)
				if record != nil {
					makeMiddle(record)
				}
				record = nil
			case place == 1:
				record = chunk
			case place != 2:
				record = nil
			}
		}
	}
	return damaged
}

// nextChunk gives the chunk at the front of what is left of a block; nil where
// there is none of this log.
func nextChunk(rest []byte, number uint32) []byte {
	if len(rest) < plainHeader || rest[chunkType] < chunkPlain || rest[chunkType] >= chunkTypesEnd ||
		binary.LittleEndian.Uint32(rest[chunkNumber:]) != number {
		return nil
	}
	size := plainHeader
	if rest[chunkType] >= chunkOffset {
		size = offsetHeader
	}
	size += int(binary.LittleEndian.Uint16(rest[4:]))
	if size > len(rest) {
		return nil
	}
	return rest[:size:size]
}

func chunkSum(chunk []byte) uint32 {
	c := crc32.Checksum(chunk[chunkType:], castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

func makeMiddle(chunk []byte) {
	chunk[chunkType] += 2 - (chunk[chunkType]-chunkPlain)%4
	binary.LittleEndian.PutUint32(chunk, chunkSum(chunk))
}
