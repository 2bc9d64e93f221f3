package storage

// LevelStats is the size of one level of the LSM tree.
type LevelStats struct {
	Bytes int64
	Files int64
}

// Stats is the store's use of disk and memory, and its work.
type Stats struct {
	Bytes              uint64
	CompactionDebt     uint64
	MemTableBytes      uint64
	CacheBytes         int64
	CacheHits          uint64
	CacheMisses        uint64
	WALBytes           uint64
	ReadAmplification  int
	Levels             []LevelStats
	CompactionsRunning int64
	// WrittenBytes is how much was written to tables and the write-ahead log since the
	// store was opened.
	WrittenBytes uint64
}

// Live returns about how many bytes the current messages and queues use. It excludes
// logs, and tables that wait for deletion.
func (s Stats) Live() uint64 {
	live := s.MemTableBytes
	for _, level := range s.Levels {
		live += uint64(level.Bytes) //nolint:gosec // not negative
	}
	return live
}

// PointReads returns how many keys were read one by one. Tests use it to bound the reads
// of a commit.
func (s *Store) PointReads() uint64 { return s.pointReads.Load() }

// Stats returns the store's current measurements. It is cheap enough for each scrape.
func (s *Store) Stats() Stats {
	m := s.db.Metrics()
	stats := Stats{
		Bytes:              m.DiskSpaceUsage(),
		CompactionDebt:     m.Compact.EstimatedDebt,
		CompactionsRunning: m.Compact.NumInProgress,
		MemTableBytes:      m.MemTable.Size,
		CacheBytes:         m.BlockCache.Size,
		CacheHits:          uint64(m.BlockCache.Hits),   //nolint:gosec // a count
		CacheMisses:        uint64(m.BlockCache.Misses), //nolint:gosec // same
		WALBytes:           m.WAL.PhysicalSize,
		ReadAmplification:  m.ReadAmp(),
		WrittenBytes:       m.WAL.BytesWritten,
	}
	if s.prealloc != nil {
		stats.Bytes += s.prealloc.Bytes()
	}
	for i := range m.Levels {
		level := &m.Levels[i]
		stats.Levels = append(stats.Levels, LevelStats{Bytes: level.TablesSize, Files: level.TablesCount})
		stats.WrittenBytes += level.TableBytesFlushed + level.TableBytesCompacted
	}
	return stats
}
