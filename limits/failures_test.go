package limits

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestFailuresAreThrottledByAddress(t *testing.T) {
	now := time.Unix(1000, 0)
	f := NewFailures(3, time.Minute, func() time.Time { return now })
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 3 {
		if _, throttled := f.Fail(a); throttled {
			t.Fatalf("failure %d is throttled", i+1)
		}
	}
	now = now.Add(20 * time.Second)
	if wait, throttled := f.Fail(a); !throttled || wait != 40*time.Second {
		t.Errorf("the fourth: wait %s, throttled %t; want 40s, true", wait, throttled)
	}
	if _, throttled := f.Fail(netip.MustParseAddr("::ffff:192.0.2.1")); !throttled {
		t.Error("the same address, mapped to IPv6, is not throttled")
	}
	if _, throttled := f.Fail(b); throttled {
		t.Error("another address is throttled")
	}
	now = now.Add(40 * time.Second)
	if _, throttled := f.Fail(a); throttled {
		t.Error("the address is throttled after its window has closed")
	}
}

func TestFailuresOfIPv6CountByNetwork(t *testing.T) {
	f := NewFailures(1, time.Minute, nil)
	f.Fail(netip.MustParseAddr("2001:db8::1"))
	if _, throttled := f.Fail(netip.MustParseAddr("2001:db8::2%eth0")); !throttled {
		t.Error("another address of the same /64 is not throttled")
	}
	if _, throttled := f.Fail(netip.MustParseAddr("2001:db8:0:1::1")); throttled {
		t.Error("an address of another /64 is throttled")
	}
}

func TestMemoryOfFailuresIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	f := NewFailures(1, time.Minute, func() time.Time { return now })
	for i := range uint32(3 * maxWindows) {
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], i)
		f.Fail(netip.AddrFrom4(addr))
	}
	if n := f.Addresses(); n > maxWindows || n < maxWindows-1 {
		t.Errorf("%d addresses are kept, want at most %d", n, maxWindows)
	}
	now = now.Add(time.Minute)
	if n := f.Addresses(); n != 0 {
		t.Errorf("%d addresses are kept after their windows have closed", n)
	}
	f.Fail(netip.Addr{}) // an unknown address counts too
	if n := f.Addresses(); n != 1 {
		t.Errorf("an invalid address: %d windows, want 1", n)
	}
}
