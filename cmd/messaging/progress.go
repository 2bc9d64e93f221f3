package main

import (
	"context"
	"errors"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// keepProgress saves every second how far things came.
func (m *Main) keepProgress(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := m.saveProgress(); err != nil && !errors.Is(err, storage.ErrDiskFull) {
			return err
		}
	}
}

func (m *Main) saveProgress() error {
	durable := m.log.Durable()
	return errors.Join(m.saveWatermark(durable), m.settle(durable))
}

// saveWatermark notes what was acknowledged, so that a store that comes back
// with less is found out.
func (m *Main) saveWatermark(durable uint64) error {
	saved, err := m.store.Control().Watermark()
	if err != nil || saved.Sequence == durable {
		return err
	}
	return m.store.Control().SaveWatermark(storage.Watermark{Sequence: durable, Generation: m.log.Generation()})
}

// settle moves the drain's position behind everything while nothing drains:
// what is sent meanwhile counts as settled, also once there is a backend.
func (m *Main) settle(durable uint64) error {
	if m.Config.DjangoURL != "" {
		return nil
	}
	end := messaging.Position{Sequence: durable + 1}
	saved, err := m.store.Control().Position()
	if err != nil || saved == end {
		return err
	}
	return m.store.Control().SavePosition(end)
}
