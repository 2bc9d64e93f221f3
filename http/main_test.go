package http_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a goroutine of the package outlives the tests. It ignores the idle
// connections of the tests' clients.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}
