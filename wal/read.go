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

// errEnough stops a scan whose page is full.
var errEnough = errors.New("page is full")

// Record gives the record of a sequence, or [storage.ErrNotFound] when
// retention has taken it.
func (l *Log) Record(seq uint64) (Record, error) {
	if seq < l.Floor() {
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

// RecordReader reads several records: from memory those that are there, and what is
// near those that are not. Close it after a page. It is not safe for concurrent use.
type RecordReader struct {
	log   *Log
	ahead []fetched
	disk  *storage.RecordReader // opened for the first that is read with its neighbours
}

// fetched is a record that was asked for ahead: its bytes or why there are none, or
// neither where it is to be read with its neighbours.
type fetched struct {
	seq uint64
	raw []byte
	err error
}

// aheadAtOnce is how many records are read at a time for one reader.
const aheadAtOnce = 4

// RecordReader begins to read records.
func (l *Log) RecordReader() *RecordReader { return &RecordReader{log: l} }

// Ahead reads records that [RecordReader.Record] will be asked for. Those that are
// not in memory are read several at a time: where they lie far apart each waits
// for a block of its own.
func (r *RecordReader) Ahead(seqs []uint64) {
	r.ahead = make([]fetched, len(seqs))
	for i, seq := range seqs {
		r.ahead[i].seq = seq
	}
	if r.log.cache.collect(r.ahead) {
		return
	}
	var alone []*fetched
	var since []uint64
	for i := range r.ahead {
		if f := &r.ahead[i]; f.raw == nil {
			if again, at := r.log.cache.miss(f.seq); !again {
				alone, since = append(alone, f), append(since, at)
			}
		}
	}
	inParallel(len(alone), aheadAtOnce, func(i int) {
		f := alone[i]
		f.raw, f.err = r.log.readAlone(f.seq, since[i])
	})
}

// inParallel calls do for each number below n, a few at a time, and returns when all
// are done.
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

// Record gives the record of a sequence, or [storage.ErrNotFound] when retention
// has taken it.
func (r *RecordReader) Record(seq uint64) (Record, error) {
	if seq < r.log.Floor() {
		return Record{}, storage.ErrNotFound
	}
	raw, err := r.raw(seq)
	if err != nil {
		return Record{}, err
	}
	return present(seq, raw)
}

func (r *RecordReader) raw(seq uint64) ([]byte, error) {
	for i := range r.ahead {
		if f := &r.ahead[i]; f.seq == seq && (f.raw != nil || f.err != nil) {
			return f.raw, f.err
		}
	}
	if raw, ok := r.log.cache.get(seq); ok {
		return raw, nil
	}
	return r.read(seq)
}

// read reads a record from the disk, and those near it too where it is not the
// first of them that is wanted.
func (r *RecordReader) read(seq uint64) ([]byte, error) {
	again, since := r.log.cache.miss(seq)
	if again {
		return r.readAround(seq, since)
	}
	return r.log.readAlone(seq, since)
}

// readAlone gets one record, which looks into one table; an iterator would look for
// what comes next in all levels. since is from the miss.
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

// Close ends the reading.
func (r *RecordReader) Close() error {
	if r.disk == nil {
		return nil
	}
	return r.disk.Close()
}

// present decodes a record; one that was trimmed is not there any more.
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
		return Record{}, fmt.Errorf("%w: record %d: %w", storage.ErrDamaged, seq, err)
	}
	return r, nil
}

// Read gives the messages from a position on, in the order of the log, until
// there are limit of them, they have maxBytes of bodies (always at least one
// message), or the durable end is reached. A broadcast gives one message a
// receiver; what was trimmed is passed over, so a page may be empty before the
// end. next is the position behind the last one.
func (l *Log) Read(from messaging.Position, limit, maxBytes int) (page []messaging.Message, next messaging.Position, err error) {
	r := reader{log: l, limit: limit, maxBytes: maxBytes, next: from}
	if floor := l.Floor(); r.next.Sequence < floor {
		r.next = messaging.Position{Sequence: floor}
	}
	err = l.store.Records(r.next.Sequence, l.Durable()+1, r.record)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return r.page, r.next, err
}

// reader gathers one page.
type reader struct {
	log      *Log
	limit    int
	maxBytes int
	bytes    int
	passed   int // records that were trimmed
	page     []messaging.Message
	next     messaging.Position
}

// maxPassed bounds the trimmed records that one page passes over.
const maxPassed = 65_536

func (r *reader) full() bool {
	return r.passed >= maxPassed || len(r.page) >= r.limit || (r.bytes >= r.maxBytes && len(r.page) > 0)
}

func (r *reader) record(seq uint64, raw []byte) (bool, error) {
	if seq != r.next.Sequence {
		return false, fmt.Errorf("%w: record %d is missing", storage.ErrDamaged, r.next.Sequence)
	}
	record, err := decode(seq, raw)
	if err != nil {
		return false, err
	}
	if record.Trimmed {
		r.passed++
		r.next = messaging.Position{Sequence: seq + 1}
		return !r.full(), nil
	}
	record.Message.Body = slices.Clone(record.Message.Body) // raw is the iterator's
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
		receivers, err := r.log.Receivers(record, chunk)
		if err != nil && r.log.gone(seq) {
			return nil // it was trimmed while it was read
		}
		if err != nil {
			return err
		}
		for _, receiver := range receivers[r.next.Receiver%messaging.ReceiversPerChunk:] {
			if r.full() {
				return errEnough
			}
			r.add(record.CopyFor(seq, r.next.Receiver, receiver))
			r.next.Receiver++
		}
	}
	return nil
}

// Receivers gives one chunk of a broadcast's receivers, whole.
func (l *Log) Receivers(record *Record, chunk uint32) ([]messaging.Receiver, error) {
	receivers, err := l.store.Receivers(record.Message.ID, chunk)
	if err != nil {
		return nil, fmt.Errorf("%w: receivers of broadcast %s: %w", storage.ErrDamaged, record.Message.ID, err)
	}
	want := min(record.Recipients-chunk*messaging.ReceiversPerChunk, messaging.ReceiversPerChunk)
	if uint32(len(receivers)) != want { //nolint:gosec // at most 4096
		return nil, fmt.Errorf("%w: receivers of broadcast %s: chunk %d has %d", storage.ErrDamaged, record.Message.ID, chunk, len(receivers))
	}
	return receivers, nil
}

// gone says whether a record was trimmed.
func (l *Log) gone(seq uint64) bool {
	_, err := l.Record(seq)
	return errors.Is(err, storage.ErrNotFound)
}

// Wait returns when the log has something at or behind a position, or with the
// context's error.
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

// SequenceAt gives the first sequence whose message was created at or after a
// time, or the one behind the end of the log. Where a clock was set back it is
// the first of several.
func (l *Log) SequenceAt(at time.Time) (uint64, error) {
	ms, end := at.UnixMilli(), l.Durable()+1
	indexed, err := l.store.SequenceBefore(ms - 1)
	if err != nil {
		return 0, err
	}
	found := end
	err = l.store.Records(max(l.Floor(), indexed), end, func(seq uint64, raw []byte) (bool, error) {
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

// ExpiredBefore gives the first sequence that retention must keep: every record
// below it was written at or before cutoff (Unix ms). now tells records apart
// that a clock running ahead has dated into the future; they go with those
// around them. It looks at no more than limit records.
func (l *Log) ExpiredBefore(cutoff, now int64, limit uint64) (uint64, error) {
	indexed, err := l.store.SequenceBefore(cutoff)
	if err != nil {
		return 0, err
	}
	keep := l.Floor()
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
