package storage

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails where a goroutine outlives the tests: whoever starts one joins it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
