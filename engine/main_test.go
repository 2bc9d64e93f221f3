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
	os.Exit(status) //nolint:forbidigo // the exit of the tests
}

// TestNothingRunsAfterClose checks that Close joins every goroutine. It does not cover
// all tests: on failing disks, tests leave goroutines that a real process would end with.
func TestNothingRunsAfterClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	r := newRig(t, engine.Config{})
	r.send("u", "x", messaging.Normal)
	wantTexts(t, r.take("u", 1), "x")
	r.close()
	goleak.VerifyNone(t, before)
}
