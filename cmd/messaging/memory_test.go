package main

import "testing"

func TestCacheFollowsTheMemory(t *testing.T) {
	for _, c := range []struct {
		memory uint64
		want   int64
	}{{0, 32 << 20}, {512 << 20, 32 << 20}, {8 << 30, 256 << 20}, {1 << 40, 1 << 30}} {
		if got := cacheFor(c.memory); got != c.want {
			t.Errorf("with %d bytes of memory the cache has %d, want %d", c.memory, got, c.want)
		}
	}
	if memory() < 64<<20 {
		t.Errorf("this machine has %d bytes of memory, want at least 64 MiB", memory())
	}
}
