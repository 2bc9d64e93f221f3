package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/wal"
)

// realDisk is an engine on the real disk.
type realDisk struct {
	testing.TB

	dir    string
	store  *storage.Store
	log    *wal.Log
	engine *engine.Engine
}

func openDisk(tb testing.TB, dir string) (*realDisk, error) {
	tb.Helper()
	store, err := storage.Open(storage.Config{Dir: dir, MemTableBytes: 1 << 20, Fatal: func(err error) { tb.Errorf("fatal: %v", err) }})
	if err != nil {
		return nil, err
	}
	log, err := wal.Open(wal.Config{Store: store})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	e, err := engine.Open(engine.Config{Store: store, Log: log, MaxDeliveries: 3})
	if err != nil {
		return nil, errors.Join(err, log.Close(), store.Close())
	}
	return &realDisk{tb, dir, store, log, e}, nil
}

func mustOpenDisk(tb testing.TB, dir string) *realDisk {
	tb.Helper()
	d, err := openDisk(tb, dir)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// close stops the engine as the service does: it saves the watermark first.
func (d *realDisk) close() {
	d.Helper()
	err := d.log.Close()
	d.saveWatermark()
	if err = errors.Join(err, d.store.Close()); err != nil {
		d.Fatal(err)
	}
}

func (d *realDisk) saveWatermark() {
	d.Helper()
	if err := d.store.Control().SaveWatermark(storage.Watermark{Sequence: d.log.Durable(), Generation: d.log.Generation()}); err != nil {
		d.Fatal(err)
	}
}

func (d *realDisk) send(user, fields string, idempotencyKey string) messaging.SendResult {
	d.Helper()
	m, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":"x"%s}`, user, fields))
	if err != nil {
		d.Fatal(err)
	}
	key := messaging.IdempotencyKey{}
	if idempotencyKey != "" {
		key = messaging.NewIdempotencyKey("tester", "send", idempotencyKey, [32]byte{1})
	}
	receipt, err := d.engine.Send(m, key)
	if err != nil {
		d.Fatal(err)
	}
	return receipt
}

func (d *realDisk) broadcast(users int) messaging.SendResult {
	d.Helper()
	receipt, err := d.engine.Broadcast(largeBroadcast(d, users), messaging.IdempotencyKey{})
	if err != nil {
		d.Fatal(err)
	}
	return receipt
}

// fillWhole adds data of every kind to a store.
func (d *realDisk) fillWhole() {
	d.Helper()
	for i := range 60 {
		d.send(fmt.Sprint("u", i%4), fmt.Sprintf(`,"priority":%q`, messaging.Priority(i%messaging.Priorities)), fmt.Sprint("key", i))
	}
	for i := range 6 {
		d.send("later", fmt.Sprintf(`,"delay_seconds":%d`, 3600+i), "")
		d.send("short", fmt.Sprintf(`,"ttl_seconds":%d`, 3600+i), "")
	}
	d.broadcast(7)
	d.broadcast(messaging.ReceiversPerChunk + 5)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	fanned := make(chan error, 1)
	go func() { fanned <- d.engine.Fanout(ctx) }()
	for ctx.Err() == nil && d.engine.Stats().Fanouts > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-fanned; err != nil {
		d.Fatal(err)
	}
	d.moveSome()
	d.lettersSome()
}

// moveSome takes, acknowledges, nacks and evicts some messages, and begins a clear that
// stays unfinished.
func (d *realDisk) moveSome() {
	d.Helper()
	h, err := d.engine.Take(context.Background(), "u0", messaging.TakeOptions{Limit: 4})
	if err != nil {
		d.Fatal(err)
	}
	h.Finish(true)
	leased, err := d.engine.Take(context.Background(), "u1", messaging.TakeOptions{Limit: 6, Lease: time.Hour})
	if err != nil {
		d.Fatal(err)
	}
	leased.Finish(true)
	receipts := make([]string, len(leased.Messages))
	for i := range leased.Messages {
		receipts[i] = leased.Messages[i].Receipt
	}
	_, err = d.engine.Acknowledge("u1", receipts[:2])
	_, rejectErr := d.engine.Nack("u1", receipts[2:4], time.Hour)
	_, clearErr := d.engine.Clear("u3")
	if err = errors.Join(err, rejectErr, clearErr); err != nil {
		d.Fatal(err)
	}
}

// lettersSome writes dead letters of both kinds, a position and a job.
func (d *realDisk) lettersSome() {
	d.Helper()
	page, _, err := d.log.Read(messaging.Position{Sequence: 1}, 3, 1<<20)
	if err != nil {
		d.Fatal(err)
	}
	letters := []messaging.DeadLetter{
		{
			ID: messaging.DeadLetterID(messaging.Refused, page[1].ID), Kind: messaging.Refused, Reason: "no such row", Attempts: 3,
			FailedAt: time.Unix(1000, 0), Message: page[1],
		},
		{
			ID: messaging.DeadLetterID(messaging.Undeliverable, page[0].ID), Kind: messaging.Undeliverable, Reason: "nobody acknowledged it",
			FailedAt: time.Unix(2000, 0), Message: page[0],
		},
	}
	store := d.engine.DeadLetters()
	if err := errors.Join(
		store.AddDeadLetters(letters, messaging.Progress{Position: &messaging.Position{Sequence: 10}}),
		store.SaveProgress(messaging.Progress{Job: "job", Record: []byte(`{"ID":"job","Kind":"replay","State":"done","Done":3,"Total":3}`), Ended: true}),
	); err != nil {
		d.Fatal(err)
	}
}

func checkConfig(dir string) fsck.Config {
	return fsck.Config{Dir: dir, Codec: wal.Codec()}
}
