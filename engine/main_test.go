package engine_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/engine"
)

func TestMain(m *testing.M) {
	status := m.Run()
	program.Clean()
	os.Exit(status) //nolint:forbidigo // of the tests
}

// TestNothingRunsBehindAClose: whoever starts a goroutine joins it. (Rigs of
// failing disks leave behind what a process takes with it when it ends, so this
// is no check of all tests.)
func TestNothingRunsBehindAClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	r := newRig(t, engine.Config{})
	r.send("u", "x", messaging.Normal)
	wantTexts(t, r.take("u", 1), "x")
	r.close()
	goleak.VerifyNone(t, before)
}
