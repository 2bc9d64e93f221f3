package storage

// LevelStats is the size of one level of the LSM tree.
type LevelStats struct {
	Bytes int64
	Files int64
}

// Stats is what the store takes on disk and in memory.
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
	// WrittenBytes counts what went to tables and the write-ahead log since the
	// store was opened.
	WrittenBytes uint64
}

// Live is about what the messages and queues themselves take: without logs and
// tables that are only waiting to be deleted.
func (s Stats) Live() uint64 {
	live := s.MemTableBytes
	for _, level := range s.Levels {
		live += uint64(level.Bytes) //nolint:gosec // not negative
	}
	return live
}

// PointReads is how many keys were read one by one. Tests bound with it what a
// commit reads.
func (s *Store) PointReads() uint64 { return s.pointReads.Load() }

// Stats reads the store's measures. It is cheap enough for a scrape.
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
