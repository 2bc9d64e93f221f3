package engine_test

import (
	"context"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestStagedBroadcastThatWasNotCommittedIsRemoved(t *testing.T) {
	r := newRig(t, engine.Config{})
	b := largeBroadcast(t, messaging.ReceiversPerChunk+1)
	for n, chunk := range b.Receivers.Chunks() { // the state after a crash before the commit point
		batch := r.store.NewBatch()
		batch.PutStage(messaging.MessageID{1})
		batch.PutReceivers(messaging.MessageID{1}, n, chunk)
		batch.Commit()
		batch.Close()
	}
	r.reopen()
	if _, err := r.store.Receivers(messaging.MessageID{1}, 0); err == nil {
		t.Error("receivers of a broadcast that was never committed are still there")
	}
	if stages, err := r.store.Stages(); err != nil || len(stages) != 0 {
		t.Errorf("stages %v (%v)", stages, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.engine.Fanout(ctx); err != nil {
		t.Error(err)
	}
}
