package fsck

import (
	"fmt"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// broadcast checks that all chunks of a broadcast's receivers exist and are complete. It
// reads them together with the record, so it needs to remember nothing of a complete
// broadcast.
func (c *checker) broadcast(seq uint64, info schema.RecordInfo) {
	where := fmt.Sprintf("record %d", seq)
	chunks, whole := uint32(0), true
	wrong := func(what string, args ...any) {
		whole = false
		c.report.Add(where, what, args...)
	}
	prefix := schema.IDKey(schema.TableReceivers, info.ID)
	err := tables.Scan(c.reader, prefix, schema.PrefixEnd(prefix), func(key, value []byte) (bool, error) {
		_, chunk, ok := schema.ParseReceiversKey(key)
		switch {
		case !ok: // reported by receivers
		case chunk != chunks || chunk >= chunksOf(info.Recipients):
			wrong("has chunk %d of its receivers in the place of chunk %d", chunk, chunks)
		case !wholeChunk(value, chunk, info.Recipients):
			wrong("has receivers that cannot be read (chunk %d)", chunk)
		}
		chunks++
		return true, nil
	})
	switch {
	case err != nil:
		wrong("is a broadcast whose receivers cannot be read: %v", err)
	case whole && chunks < chunksOf(info.Recipients):
		wrong("is a broadcast that lacks some of its receivers")
	}
	if !whole {
		c.Broken = append(c.Broken, Broadcast{info.ID, seq, info.Recipients})
	}
}

// receivers checks that all receivers belong to a broadcast or are staged for one.
func (c *checker) receivers() error {
	staged, err := c.reader.Stages()
	if err != nil {
		return err
	}
	var last messaging.MessageID
	return tables.ScanTable(c.reader, schema.TableReceivers, func(key, _ []byte) (bool, error) {
		id, _, ok := schema.ParseReceiversKey(key)
		switch {
		case !ok:
			c.report.Add("table b (receivers)", "has a malformed key")
		case id == last:
		case !c.broadcasts.has(id) && !slices.Contains(staged, id):
			c.report.Add("receivers of broadcast "+id.String(), "exist, but the broadcast does not")
		}
		last = id
		return true, nil
	})
}

func chunksOf(recipients uint32) uint32 {
	return (recipients + messaging.ReceiversPerChunk - 1) / messaging.ReceiversPerChunk
}

func wholeChunk(value []byte, chunk, recipients uint32) bool {
	list, err := messaging.DecodeReceivers(value)
	want := min(recipients-chunk*messaging.ReceiversPerChunk, messaging.ReceiversPerChunk)
	return err == nil && uint32(len(list)) == want //nolint:gosec // at most 4096
}
