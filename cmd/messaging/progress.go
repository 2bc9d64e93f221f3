package main

import (
	"context"
	"errors"
	"time"

	"github.com/stayafrica/messaging/storage"
)

// checkpointLoop saves the watermark every second.
func (m *Main) checkpointLoop(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := m.saveWatermark(); err != nil && !errors.Is(err, storage.ErrDiskFull) {
			return err
		}
	}
}

// saveWatermark saves the last acknowledged sequence, so that the next start detects a
// store that has lost some.
func (m *Main) saveWatermark() error {
	durable := m.log.Durable()
	saved, err := m.store.Control().Watermark()
	if err != nil || saved.Sequence == durable {
		return err
	}
	return m.store.Control().SaveWatermark(storage.Watermark{Sequence: durable, Generation: m.log.Generation()})
}
