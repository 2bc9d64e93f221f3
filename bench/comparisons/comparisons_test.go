package comparisons

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

// TestSystems checks that each system keeps every message once until it is taken.
func TestSystems(t *testing.T) {
	for _, p := range All() {
		t.Run(p.Name(), func(t *testing.T) { testSystem(t, p) })
	}
}

func testSystem(t *testing.T, p System) {
	t.Helper()
	version, err := p.Start(t.TempDir())
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if errors.Is(err, ErrAbsent) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("version %s: %s", version, p.Detail())
	clients, err := p.Open(4)
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()

	// Users 1, 2 and 3 do not share a RabbitMQ queue.
	for i := range 30 {
		if err := clients.Send(i%4, 1+i%3); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
	}
	if err := clients.SendBatch(2, []int{1, 2, 3, 1, 2, 3, 3}); err != nil {
		t.Fatalf("send a batch: %v", err)
	}
	for user, want := range map[int][]int{1: {10, 2, 0}, 2: {10, 2, 0}, 3: {10, 3, 0}, 4: {0}} {
		for i, n := range want {
			got, err := clients.Take(user%4, user, 10)
			if err != nil {
				t.Fatalf("take %d of user %d: %v", i, user, err)
			}
			if got != n {
				t.Errorf("take %d of user %d returned %d messages, want %d", i, user, got, n)
			}
		}
	}
	if l, ok := p.(Loader); ok {
		testLoader(t, l)
	}
}

// testLoader checks that the output of the load generators can be parsed.
func testLoader(t *testing.T, l Loader) {
	t.Helper()
	s, detail, err := l.Load(4, 1, 500*time.Millisecond)
	if errors.Is(err, ErrAbsent) {
		t.Log(err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %.0f messages/s", detail, s.Value)
	if s.Value <= 0 || s.Latency == nil || s.Latency.P50 <= 0 || s.Latency.P50 > s.Latency.P99 || s.Latency.P99 > s.Latency.Max || len(s.Latency.Curve) == 0 {
		t.Errorf("%s returned %+v with latencies %+v", detail, s, s.Latency)
	}
}

func TestAbsent(t *testing.T) {
	_, err := find("no-such-server", "the package none", t.TempDir())
	if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "no-such-server") || !strings.Contains(err.Error(), "the package none") {
		t.Errorf("the error is %v", err)
	}
}

func TestInterpolate(t *testing.T) {
	curve := []measure.Point{{Part: 0, MS: 1}, {Part: 0.5, MS: 2}, {Part: 0.75, MS: 4}, {Part: 1, MS: 10}, {Part: 1, MS: 11}}
	for part, want := range map[float64]float64{0: 1, 0.25: 1.5, 0.5: 2, 0.625: 3, 1: 10} {
		if got := interpolate(curve, part); got != want {
			t.Errorf("at %v it is %v, want %v", part, got, want)
		}
	}
}
