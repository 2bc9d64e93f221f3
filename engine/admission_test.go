package engine_test

import (
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestFullDiskRefusesSendsAndDelivers(t *testing.T) {
	free := uint64(1000)
	r := newRig(t, engine.Config{MinFree: 100, Free: func() (uint64, error) { return free, nil }})
	r.send("u", "x", messaging.Normal)
	free = 99
	if err := r.engine.MeasureDisk(); err != nil {
		t.Fatal(err)
	}
	_, err := r.engine.Send(draft(t, "u", "y", messaging.Normal), messaging.IdempotencyKey{})
	if messaging.CodeOf(err) != messaging.CodeDiskFull {
		t.Fatalf("a send on a full disk returned %v", err)
	}
	wantTexts(t, r.take("u", 10), "x")
	free = 1000
	if err := r.engine.MeasureDisk(); err != nil {
		t.Fatal(err)
	}
	r.send("u", "z", messaging.Normal)
	wantTexts(t, r.take("u", 10), "z")
}
