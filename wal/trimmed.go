package wal

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// The log counts the trimmed records from the drain's position on. While nothing drains,
// retention and a full disk trim messages that wait for the backend.
//
// Invariant: meta.Trimmed is the number of sequences at or above the position that are
// below the first sequence, or whose record is a tombstone or was lost. Each commit that
// trims a record adds to it. A commit that moves the position keeps only the count at or
// above the new one. While something drains, nothing at or above the position is trimmed,
// so the count can be taken before that commit.

// Trimmed returns how many sequences from the drain's position on no longer have a
// message.
func (l *Log) Trimmed() uint64 { return l.trimmed.Load() }

// TrimmedFrom returns what [Log.Trimmed] will be with the drain at seq. It reads
// the records between the position and seq, if any was trimmed.
func (l *Log) TrimmedFrom(seq uint64) (uint64, error) {
	snapshot := l.Snapshot()
	defer snapshot.Release()
	position, err := snapshot.Position()
	if err != nil {
		return 0, err
	}
	if seq < position.Sequence {
		more, err := CountTrimmed(snapshot.Reader, snapshot.FirstSequence, seq, position.Sequence)
		return snapshot.trimmed + more, err
	}
	if snapshot.trimmed == 0 {
		return 0, nil
	}
	passed, err := CountTrimmed(snapshot.Reader, snapshot.FirstSequence, position.Sequence, seq)
	return snapshot.trimmed - min(passed, snapshot.trimmed), err
}

// CountTrimmed returns how many sequences from from on and below to no longer have a
// message, in a log whose first sequence is first.
func CountTrimmed(store storage.Reader, first, from, to uint64) (n uint64, err error) {
	from = max(1, from) // 0 is no sequence: the log begins at 1
	if start := min(first, to); from < start {
		n, from = start-from, start
	}
	if from >= to {
		return n, nil
	}
	err = store.Records(from, to, func(_ uint64, raw []byte) (bool, error) {
		if record, err := DecodeRecord(raw); err == nil && (record.Trimmed || record.Lost) {
			n++ // an unreadable record is no tombstone
		}
		return true, nil
	})
	return n, err
}

// openTrimmed reads the drain's position. If the count of trimmed records is unknown, it
// counts them.
func (l *Log) openTrimmed() error {
	position, err := l.store.Position()
	if err != nil {
		return err
	}
	l.drained = position.Sequence
	if l.meta.Trimmed == storage.TrimmedUnknown {
		l.meta.Trimmed, err = CountTrimmed(l.store.Reader, l.meta.FirstSequence, l.drained, l.meta.Last+1)
	}
	return err
}

// PutPosition writes the drain's position; trimmed is [Log.TrimmedFrom] of it.
func (tx *Tx) PutPosition(p messaging.Position, trimmed uint64) {
	tx.Writer.PutPosition(p)
	tx.log.drained, tx.log.meta.Trimmed = p.Sequence, trimmed
}

// CountTrimmed counts a record that this commit trims, either by a tombstone or by a
// higher first sequence.
func (tx *Tx) CountTrimmed(seq uint64) {
	if seq >= tx.log.drained {
		tx.log.meta.Trimmed++
	}
}
