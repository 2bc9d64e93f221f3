package repair

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// logSources reads the write-ahead logs that were not flushed into tables.
func (s *salvager) logSources() (sources []iter.Seq[version]) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		s.report.Add(layout.MessagesDir, "%v", err)
	}
	for i, name := range names {
		l := writeAheadLog{name: filepath.Join(layout.MessagesDir, filepath.Base(name)), report: s.report}
		if err := l.read(name); err != nil {
			s.report.Add(l.name, "cannot be read: %v", err)
			continue
		}
		if i < len(names)-1 && s.isFlushed(l.versions) {
			continue
		}
		s.deletes = append(s.deletes, l.deletes...)
		slices.SortStableFunc(l.versions, func(a, b version) int {
			if c := bytes.Compare(a.key, b.key); c != 0 {
				return c
			}
			return -compareNumbers(a.seq, b.seq)
		})
		sources = append(sources, slices.Values(l.versions))
	}
	return sources
}

func compareNumbers(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// lastRecord returns the highest sequence of a record in the write-ahead logs.
func (s *salvager) lastRecord() (last uint64) {
	names, _ := filepath.Glob(filepath.Join(s.dir, "*.log")) // the pattern is right
	for _, name := range names {
		l := writeAheadLog{report: new(fsck.Report)}
		if l.read(name) != nil {
			continue
		}
		for _, v := range l.versions {
			if seq, err := schema.ParseNumberKey(v.key); err == nil && v.key[0] == schema.TableLog && !v.deleted {
				last = max(last, seq)
			}
		}
	}
	return last
}

// isFlushed reports whether the first and the last record of a log are in tables.
func (s *salvager) isFlushed(versions []version) bool {
	var first, last []byte
	for _, v := range versions {
		if v.key[0] == schema.TableLog && !v.deleted {
			if first == nil {
				first = v.key
			}
			last = v.key
		}
	}
	return first != nil && s.inTables(first) && s.inTables(last)
}

func (s *salvager) inTables(key []byte) bool {
	names, _ := filepath.Glob(filepath.Join(s.dir, "*.sst")) // the pattern is right
	for _, name := range names {
		for v := range (&salvager{dir: s.dir, report: new(fsck.Report)}).tableFrom(name, key) {
			if bytes.Equal(v.key, key) {
				return true
			}
			break
		}
	}
	return false
}

// writeAheadLog is the readable part of a log.
type writeAheadLog struct {
	name     string
	report   *fsck.Report
	versions []version
	deletes  []rangeDelete
}

// read reads all batches, including those after a damaged one: they were acknowledged
// too.
func (l *writeAheadLog) read(path string) error {
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".log"), 10, 64)
	if err != nil {
		return errLogName
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	damaged := eachRecord(data, uint32(number), func(record []byte) { //nolint:gosec // as Pebble does
		if err := l.batch(record); err != nil {
			l.report.Add(l.name, "has a batch that cannot be read: %v", err)
		}
	})
	if damaged > 0 {
		l.report.Add(l.name, "has damaged chunks: %d", damaged)
	}
	return nil
}

var errLogName = errors.New("its name is not that of a log")

// batch adds the keys of one batch, as far as they can be read.
func (l *writeAheadLog) batch(data []byte) (err error) {
	header, ok := batchrepr.ReadHeader(data)
	if !ok {
		return schema.ErrValue
	}
	defer func() {
		if recover() != nil { // Pebble reads past the end of a truncated batch
			err = fmt.Errorf("batch %d: %w", header.SeqNum, schema.ErrValue)
		}
	}()
	seq := uint64(header.SeqNum)
	for r := batchrepr.Read(data); ; {
		kind, key, value, ok, err := r.Next()
		if err != nil {
			return fmt.Errorf("batch %d: %w", header.SeqNum, err)
		}
		if !ok {
			return nil
		}
		deleted, point := isDelete(kind)
		switch {
		case kind == pebble.InternalKeyKindLogData:
			continue // it has no sequence number
		case kind == pebble.InternalKeyKindRangeDelete:
			l.deletes = append(l.deletes, rangeDelete{bytes.Clone(key), bytes.Clone(value), seq})
		case point && len(key) > 0:
			if kind == pebble.InternalKeyKindDeleteSized {
				value = nil
			}
			l.versions = append(l.versions, version{key: bytes.Clone(key), value: bytes.Clone(value), seq: seq, deleted: deleted})
		}
		seq++
	}
}
