package engine_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/stayafrica/messaging/bench/program"
)

// TestMain fails where a goroutine outlives the tests: whoever starts one joins it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		program.Clean()
		os.Exit(status) //nolint:forbidigo // of the tests
	}))
}
