package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// errPageFull stops a scan when the page is full.
var errPageFull = errors.New("page is full")

// Record returns the record of a sequence, or [storage.ErrNotFound] if it was trimmed.
func (l *Log) Record(seq uint64) (Record, error) {
	if seq < l.FirstSequence() {
		return Record{}, storage.ErrNotFound
	}
	raw, ok := l.cache.get(seq)
	if !ok {
		var err error
		if raw, err = l.store.Record(seq); err != nil {
			return Record{}, err
		}
	}
	return present(seq, raw)
}

// RecordReader reads several records. It takes cached records from memory, and reads
// missed ones from the disk, with their neighbours if two are close together. Close it
// after a page. It is not safe for concurrent use.
type RecordReader struct {
	log        *Log
	prefetched []fetched
	disk       *storage.RecordReader // opened for the first read of a whole chunk
}

// fetched is a prefetched record: its bytes or its error. Both are nil if the record is to
// be read with its neighbours.
type fetched struct {
	seq uint64
	raw []byte
	err error
}

// prefetchAtOnce is how many records one reader reads concurrently.
const prefetchAtOnce = 4

// RecordReader returns a new reader of records.
func (l *Log) RecordReader() *RecordReader { return &RecordReader{log: l} }

// Prefetch reads the records that [RecordReader.Record] will be asked for. Records that
// are not cached are read concurrently, because records far apart each need a block of
// their own.
func (r *RecordReader) Prefetch(seqs []uint64) {
	r.prefetched = make([]fetched, len(seqs))
	for i, seq := range seqs {
		r.prefetched[i].seq = seq
	}
	if r.log.cache.collect(r.prefetched) {
		return
	}
	var alone []*fetched
	var since []uint64
	for i := range r.prefetched {
		if f := &r.prefetched[i]; f.raw == nil {
			if again, at := r.log.cache.miss(f.seq); !again {
				alone, since = append(alone, f), append(since, at)
			}
		}
	}
	inParallel(len(alone), prefetchAtOnce, func(i int) {
		f := alone[i]
		f.raw, f.err = r.log.readAlone(f.seq, since[i])
	})
}

// inParallel calls do for each number below n, atOnce at a time, and returns when all
// calls have returned.
func inParallel(n, atOnce int, do func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := next.Add(1); i <= int64(n); i = next.Add(1) {
			do(int(i - 1))
		}
	}
	var others sync.WaitGroup
	for range min(n, atOnce) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

// Record returns the record of a sequence, or [storage.ErrNotFound] if it was trimmed.
func (r *RecordReader) Record(seq uint64) (Record, error) {
	if seq < r.log.FirstSequence() {
		return Record{}, storage.ErrNotFound
	}
	raw, err := r.raw(seq)
	if err != nil {
		return Record{}, err
	}
	return present(seq, raw)
}

func (r *RecordReader) raw(seq uint64) ([]byte, error) {
	for i := range r.prefetched {
		if f := &r.prefetched[i]; f.seq == seq && (f.raw != nil || f.err != nil) {
			return f.raw, f.err
		}
	}
	if raw, ok := r.log.cache.get(seq); ok {
		return raw, nil
	}
	return r.read(seq)
}

// read reads a record from the disk. If another record of its chunk was missed before, it
// reads the whole chunk.
func (r *RecordReader) read(seq uint64) ([]byte, error) {
	again, since := r.log.cache.miss(seq)
	if again {
		return r.readAround(seq, since)
	}
	return r.log.readAlone(seq, since)
}

// readAlone reads one record by key, which searches one table; an iterator would search
// all levels for the next key. since is from [cache.miss].
func (l *Log) readAlone(seq, since uint64) ([]byte, error) {
	record, err := l.store.Record(seq)
	if err == nil {
		l.cache.fill(seq, record, since)
	}
	return record, err
}

func (r *RecordReader) readAround(seq, since uint64) (record []byte, err error) {
	if r.disk == nil {
		if r.disk, err = r.log.store.RecordReader(); err != nil {
			return nil, err
		}
	}
	from := seq - seq%cacheChunk
	err = r.disk.Records(from, min(from+cacheChunk, r.log.Durable()+1), func(at uint64, raw []byte) {
		r.log.cache.fill(at, raw, since)
		if at == seq {
			record = slices.Clone(raw)
		}
	})
	if err == nil && record == nil {
		err = storage.ErrNotFound
	}
	return record, err
}

// Close closes the reader.
func (r *RecordReader) Close() error {
	if r.disk == nil {
		return nil
	}
	return r.disk.Close()
}

// present decodes a record. For a tombstone it returns [storage.ErrNotFound].
func present(seq uint64, raw []byte) (Record, error) {
	r, err := decode(seq, raw)
	if err == nil && r.Trimmed {
		return Record{}, storage.ErrNotFound
	}
	return r, err
}

func decode(seq uint64, raw []byte) (Record, error) {
	r, err := DecodeRecord(raw)
	if err != nil {
		return Record{}, fmt.Errorf("%w: record %d: %w", storage.ErrCorrupt, seq, err)
	}
	return r, nil
}

// Read returns the messages from a position on, in the order of the log. It stops at limit
// messages, at maxBytes of bodies (but after at least one message), or at the durable end.
// A broadcast is one message per receiver. Trimmed records are skipped, so a page may be
// empty before the end. next is the position after the last message.
//
// Invariant: each record that is not trimmed is in the page. A sequence from from on and
// below next without a message in the page was trimmed.
func (l *Log) Read(from messaging.Position, limit, maxBytes int) (page []messaging.Message, next messaging.Position, err error) {
	snapshot := l.Snapshot()
	defer snapshot.Release()
	r := reader{snapshot: snapshot, limit: limit, maxBytes: maxBytes, next: from}
	if r.next.Sequence < snapshot.FirstSequence {
		r.next = messaging.Position{Sequence: snapshot.FirstSequence}
	}
	err = snapshot.Records(r.next.Sequence, snapshot.Last+1, r.record)
	if errors.Is(err, errPageFull) {
		err = nil
	}
	return r.page, r.next, err
}

// reader collects one page.
type reader struct {
	snapshot *Snapshot
	limit    int
	maxBytes int
	bytes    int
	skipped  int // tombstones
	page     []messaging.Message
	next     messaging.Position
}

// maxSkipped bounds the tombstones that one page skips.
const maxSkipped = 65_536

func (r *reader) full() bool {
	return r.skipped >= maxSkipped || len(r.page) >= r.limit || (r.bytes >= r.maxBytes && len(r.page) > 0)
}

func (r *reader) record(seq uint64, raw []byte) (bool, error) {
	if seq != r.next.Sequence {
		return false, fmt.Errorf("%w: record %d is missing", storage.ErrCorrupt, r.next.Sequence)
	}
	record, err := decode(seq, raw)
	if err != nil {
		return false, err
	}
	if record.Trimmed {
		r.skipped++
		r.next = messaging.Position{Sequence: seq + 1}
		return !r.full(), nil
	}
	record.Message.Body = slices.Clone(record.Message.Body) // the iterator owns raw
	if record.IsBroadcast() {
		err = r.broadcast(seq, &record)
	} else {
		r.add(record.Single(seq))
	}
	if err != nil {
		return false, err
	}
	r.next = messaging.Position{Sequence: seq + 1}
	return !r.full(), nil
}

func (r *reader) add(m messaging.Message) {
	r.page = append(r.page, m)
	r.bytes += len(m.Body) + messaging.JSONOverhead
}

func (r *reader) broadcast(seq uint64, record *Record) error {
	for r.next.Receiver < record.Recipients {
		chunk := r.next.Receiver / messaging.ReceiversPerChunk
		receivers, err := receiversOf(r.snapshot.Reader, record, chunk)
		if err != nil {
			return err
		}
		for _, receiver := range receivers[r.next.Receiver%messaging.ReceiversPerChunk:] {
			if r.full() {
				return errPageFull
			}
			r.add(record.CopyFor(seq, r.next.Receiver, receiver))
			r.next.Receiver++
		}
	}
	return nil
}

// Receivers returns one whole chunk of a broadcast's receivers.
func (l *Log) Receivers(record *Record, chunk uint32) ([]messaging.Receiver, error) {
	return receiversOf(l.store.Reader, record, chunk)
}

func receiversOf(store storage.Reader, record *Record, chunk uint32) ([]messaging.Receiver, error) {
	receivers, err := store.Receivers(record.Message.ID, chunk)
	if err != nil {
		return nil, fmt.Errorf("%w: receivers of broadcast %s: %w", storage.ErrCorrupt, record.Message.ID, err)
	}
	want := min(record.Recipients-chunk*messaging.ReceiversPerChunk, messaging.ReceiversPerChunk)
	if uint32(len(receivers)) != want { //nolint:gosec // at most 4096
		return nil, fmt.Errorf("%w: receivers of broadcast %s: chunk %d has %d", storage.ErrCorrupt, record.Message.ID, chunk, len(receivers))
	}
	return receivers, nil
}

// Wait returns nil when the log has a message at or after a position, or the context's
// error.
func (l *Log) Wait(ctx context.Context, from messaging.Position) error {
	for {
		l.mu.Lock()
		tail := l.tail
		l.mu.Unlock()
		if l.Durable() >= from.Sequence {
			return nil
		}
		select {
		case <-tail:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// SequenceAt returns the first sequence whose message was created at or after a time, or
// the sequence after the end of the log. If the clock was set back, several sequences
// match; it returns the first.
func (l *Log) SequenceAt(at time.Time) (uint64, error) {
	ms, end := at.UnixMilli(), l.Durable()+1
	indexed, err := l.store.SequenceBefore(ms - 1)
	if err != nil {
		return 0, err
	}
	found := end
	err = l.store.Records(max(l.FirstSequence(), indexed), end, func(seq uint64, raw []byte) (bool, error) {
		record, err := decode(seq, raw)
		if err != nil {
			return false, err
		}
		if record.Message.CreatedAt.UnixMilli() < ms {
			return true, nil
		}
		found = seq
		return false, nil
	})
	return found, err
}

// ExpiredBefore returns the first sequence that retention must keep: every record from
// from on and below it was written at or before cutoff (Unix ms). Records dated after now
// come from a clock that ran ahead; they expire with their neighbours. It reads at most
// limit records.
func (l *Log) ExpiredBefore(from uint64, cutoff, now int64, limit uint64) (uint64, error) {
	indexed, err := l.store.SequenceBefore(cutoff)
	if err != nil {
		return 0, err
	}
	keep := max(from, l.FirstSequence())
	end := min(l.Durable()+1, keep+limit)
	if keep = max(keep, indexed+1); keep >= end {
		return end, nil
	}
	err = l.store.Records(keep, end, func(seq uint64, raw []byte) (bool, error) {
		record, err := decode(seq, raw)
		if err != nil {
			return false, err
		}
		switch at := record.Message.CreatedAt.UnixMilli(); {
		case at <= cutoff:
			keep = seq + 1
		case at <= now:
			return false, nil
		}
		return true, nil
	})
	return keep, err
}
